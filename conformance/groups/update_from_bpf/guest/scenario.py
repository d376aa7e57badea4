# SPDX-License-Identifier: GPL-2.0-only
"""Ask the verifier which kinds of BPF programs may look into, update and delete from a SOCKMAP or SOCKHASH.

Nothing is attached and nothing runs: every step loads one program. An answer is `"ok"`, or the errno with what the
verifier minded before it: `map` (not that helper with this map, or not here), `helper` (not this helper in such a
program), `argument`, `context` (no such member of the context), `leak` (a socket is not given back) or `verifier`
(anything else). An errno alone was given before verification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bpf.guest import assemble as asm
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS, Context
from conformance.guestlib.answers import FORBIDDEN, Steps, error_name
from conformance.guestlib.fixture import Fixture, scenario

_VERIFIER_ERRORS = (
    ("map", ("cannot pass map_type", "cannot update sockmap in this context", "Sleepable programs can only use")),
    ("helper", ("unknown func", "invalid func", "cannot use helper")),
    ("leak", ("Unreleased reference",)),
    ("context", ("invalid bpf_context access",)),
    ("argument", ("expected=", "invalid arg_type for sockmap/sockhash")),
)

LOOKUP, UPDATE, DELETE, RELEASE = 1, 2, 3, 86

_KEY = asm.store(asm.STACK, -8, 0) + asm.store(asm.STACK, -16, 0) + asm.move(asm.R6, asm.R1)
"""The key is at the end of the stack, a value before it, the context in R6."""
_POINT_AT_KEY = asm.move(asm.R2, asm.STACK) + asm.add(asm.R2, -8)


@scenario
def run(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Load the probes for `program`, a name from `CONTEXTS`, and `map`; `load` is the smallest program there is.

    `available`, alone, says that such programs are forbidden here, even to root: a kernel that is locked down.
    """
    context = CONTEXTS[params["program"]]
    answer = try_load(context, b"")
    steps["available" if answer == FORBIDDEN else "load"] = answer
    if answer == "ok":
        other = fixture.keep(syscall.create_map(syscall.MAP_TYPES["array"], 4, 4, 1))
        for name, code in _probes(context, params["map"], fixture.map(params["map"], 1), other):
            steps[name] = try_load(context, _KEY + code)


def try_load(context: Context, code: bytes) -> str:
    """Load a program with this body that then returns a valid value; the answer is as in the module."""
    code += asm.put(asm.R0, context.answer) + asm.EXIT
    try:
        number, minded = asm.verify(context, code)
    except LookupError:
        return "no such function"
    if not number:
        return "ok"
    if not minded:
        return error_name(number)
    reasons = (name for name, texts in _VERIFIER_ERRORS if any(text in minded for text in texts))
    return f"{next(reasons, 'verifier')}:{error_name(number)}"


def _probes(context: Context, kind: str, descriptor: int, other: int) -> Iterator[tuple[str, bytes]]:
    it = asm.put_map(asm.R1, descriptor) + _POINT_AT_KEY
    update = asm.put(asm.R4, 0) + asm.call(UPDATE)
    found = it + asm.call(LOOKUP)
    give_back = asm.move(asm.R1, asm.R7) + asm.call(RELEASE)
    value = asm.move(asm.R3, asm.STACK) + asm.add(asm.R3, -16)
    array = asm.put_map(asm.R1, other) + _POINT_AT_KEY
    yield "update and delete from an array", array + value + update + array + asm.call(DELETE)
    yield "delete", it + asm.call(DELETE)
    yield "look up, release", found + asm.unless_zero(asm.R0, asm.move(asm.R7, asm.R0) + give_back)
    yield "look up, keep", found
    yield (
        "update with a socket looked up",
        found + asm.unless_zero(asm.R0, asm.move(asm.R7, asm.R0) + it + asm.move(asm.R3, asm.R7) + update + give_back),
    )
    if context.socket is not None:
        own = asm.load(asm.R3, asm.R6, context.socket)
        yield "update with its own socket", own + asm.unless_zero(asm.R3, it + update)
    yield "update with no socket", it + value + update
    # The helpers that take the program's context and a map of sockets.
    of = kind.removeprefix("sock")
    yield "update helper", _call(*_TOPICS["socket"][f"sock_{of}_update"], {"M": descriptor, "H": descriptor})
    yield "sk redirect helper", _call(*_TOPICS["message"][f"sk_redirect_{of}"], {"M": descriptor, "H": descriptor})
    yield "msg redirect helper", _call(*_TOPICS["message"][f"msg_redirect_{of}"], {"M": descriptor, "H": descriptor})
    yield "select reuseport helper", _call(*_TOPICS["socket"]["sk_select_reuseport"], {"M": descriptor})


_REGISTERS = (asm.R1, asm.R2, asm.R3, asm.R4, asm.R5)
_SPACE = 64
_BEGIN = asm.move(asm.R6, asm.R1) + b"".join(asm.store(asm.STACK, -at, 0) for at in range(8, _SPACE + 8, 8))

# Number and arguments: c context, 0 zero, 8 the size of what p points at on the stack, a map of kind A array,
# E perf events, P programs, M sockmap, H sockhash.
_TOPICS: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "packet": {
        "skb_load_bytes": (26, "c0p8"),
        "skb_store_bytes": (9, "c0p80"),
        "skb_pull_data": (39, "c0"),
        "skb_change_tail": (38, "c00"),
        "skb_change_head": (43, "c00"),
        "skb_adjust_room": (50, "c000"),
        "skb_change_proto": (31, "c00"),
        "skb_change_type": (32, "c0"),
        "skb_vlan_pop": (19, "c"),
        "l4_csum_replace": (11, "c0000"),
        "csum_diff": (28, "p8p80"),
        "clone_redirect": (13, "c00"),
        "redirect": (23, "00"),
        "set_hash": (48, "c0"),
    },
    "message": {
        "msg_redirect_map": (60, "cM00"),
        "msg_redirect_hash": (71, "cHp0"),
        "sk_redirect_map": (52, "cM00"),
        "sk_redirect_hash": (72, "cHp0"),
        "msg_redirect_map of a sockhash": (60, "cH00"),
        "msg_redirect_hash of a sockmap": (71, "cMp0"),
        "sk_redirect_map of a sockhash": (52, "cH00"),
        "sk_redirect_hash of a sockmap": (72, "cMp0"),
        "msg_redirect_map of an array": (60, "cA00"),
        "sk_redirect_map of an array": (52, "cA00"),
        "redirect_map": (51, "M00"),
        "msg_apply_bytes": (61, "c0"),
        "msg_cork_bytes": (62, "c0"),
        "msg_pull_data": (63, "c000"),
        "msg_push_data": (90, "c000"),
        "msg_pop_data": (91, "c000"),
    },
    "socket": {
        "get_socket_cookie": (46, "c"),
        "get_socket_uid": (47, "c"),
        "get_netns_cookie": (122, "c"),
        "getsockopt": (57, "c00p8"),
        "setsockopt": (49, "c00p8"),
        "sock_map_update": (53, "cMp0"),
        "sock_hash_update": (70, "cHp0"),
        "sk_select_reuseport": (82, "cMp0"),
        "map_update_elem": (2, "Mpp0"),
        "map_delete_elem": (3, "Mp"),
        "map_push_elem": (87, "Mp0"),
        "map_pop_elem": (88, "Mp"),
        "map_peek_elem": (89, "Mp"),
        "map_lookup_percpu_elem": (195, "Mp0"),
    },
    "system": {
        "tail_call": (12, "cP0"),
        "perf_event_output": (25, "cE0p8"),
        "ktime_get_ns": (5, ""),
        "get_prandom_u32": (7, ""),
        "get_smp_processor_id": (8, ""),
        "trace_printk": (6, "p8"),
        "get_current_pid_tgid": (14, ""),
        "get_current_uid_gid": (15, ""),
        "get_current_comm": (16, "p8"),
        "get_current_cgroup_id": (80, ""),
        "probe_read_kernel": (113, "p8p"),
        "override_return": (58, "c0"),
        "send_signal": (109, "0"),
        "fib_lookup": (69, "cp80"),
        "map_update_elem of an array": (2, "App0"),
    },
}
_SHAPES = {"A": (2, 4, 8), "E": (4, 4, 4), "P": (3, 4, 4), "M": (15, 4, 4), "H": (18, 4, 4)}
"""Number of the map's type, sizes of key and value."""


@scenario
def helpers(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Load a `program` that calls one helper of a `topic`, for each of them; answers as in `update_from_bpf`."""
    maps = {letter: fixture.keep(syscall.create_map(*shape, 1)) for letter, shape in _SHAPES.items()}
    for name, call in _TOPICS[params["topic"]].items():
        steps[name] = try_load(CONTEXTS[params["program"]], _call(*call, maps))


def _call(helper: int, arguments: str, maps: Mapping[str, int]) -> bytes:
    code = _BEGIN
    space = 0
    for register, argument in zip(_REGISTERS, arguments, strict=False):
        if argument == "c":
            code += asm.move(register, asm.R6)
        elif argument == "p":
            space += 8
            code += asm.move(register, asm.STACK) + asm.add(register, -space)
        elif argument in maps:
            code += asm.put_map(register, maps[argument])
        else:
            code += asm.put(register, int(argument))
    return code + asm.call(helper)
