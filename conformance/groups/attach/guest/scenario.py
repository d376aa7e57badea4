# SPDX-License-Identifier: GPL-2.0-only
"""Attach programs to maps in every way, and query the map afterwards. No socket is involved.

Each function is a scenario. Answers are `"ok"` or an errno; of a query `none`, `first` or `second`, the program held.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

from bpf.guest import assemble as asm
from bpf.guest import links, maps, syscall
from bpf.guest.contexts import CONTEXTS
from conformance.guestlib import fixture
from conformance.guestlib.answers import FORBIDDEN, Steps, attempt, name_of, opens, outcome
from conformance.guestlib.fixture import TYPES, Fixture, closed, counting, possible, scenario

UNKNOWN_TYPE = 250
"""No attach type has this number."""
_NO_DESCRIPTOR = (1 << 32) - 1


@scenario
def types(keep: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Attach a `program` of any type to a `map`, as each attach type, by hand and by a link.

    `load` is there if it cannot be loaded, `available` if even root is forbidden to, each alone.
    """
    context = CONTEXTS[params["program"]]
    try:
        loaded = keep.keep(asm.load_program(context, asm.put(asm.R0, context.answer) + asm.EXIT))
    except LookupError:
        steps["load"] = "no such function"
        return
    except OSError as error:
        answer = name_of(error)
        steps["available" if answer == FORBIDDEN else "load"] = answer
        return
    target = keep.map(params["map"])
    for name, number in {**TYPES, "unknown": UNKNOWN_TYPE}.items():
        steps[f"attach {name}"] = attempt(links.attach, target, loaded, number)
        if steps[f"attach {name}"] == "ok":
            links.detach(target, loaded, number)
        steps[f"link {name}"] = opens(links.create, target, loaded, number)


@scenario
def pair(keep: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Attach as `first` and then as `second` to one `map`; `by` says how: `hand-hand`, `hand-link` and so on."""
    first, second = params["first"], params["second"]
    ways = params["by"].split("-")
    target = keep.map(params["map"])
    steps["first"], link = _put(keep, ways[0], target, first, "first")
    steps["second"], _ = _put(keep, ways[1], target, second, "second")
    steps["holds first"] = holder(target, first)
    if second != first:
        steps["holds second"] = holder(target, second)
    if steps["first"] == "ok":
        if link >= 0:
            keep.drop(link)
        else:
            loaded = counting(first, "first").descriptor
            steps["detach first"] = attempt(links.detach, target, loaded, TYPES[first])
        steps["holds first, then"] = holder(target, first)
    if steps["second"] != "ok":
        steps["second, then"], _ = _put(keep, ways[1], target, second, "second")


@scenario
def by_hand(keep: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Attach, replace and detach by hand as `attach`, in a `map`, the right program and every wrong one."""
    kind = params["attach"]
    number = TYPES[kind]
    first, second = counting(kind, "first").descriptor, counting(kind, "second").descriptor
    target, other = keep.map(params["map"]), keep.map(params["map"])
    steps |= {
        "empty: holds": holder(target, kind),
        "empty: count": _count(target, number),
        "empty: detach": attempt(links.detach, target, first, number),
        "attach no descriptor": attempt(links.attach, target, _NO_DESCRIPTOR, number),
        "attach a map": attempt(links.attach, target, other, number),
        "attach with flags": attempt(links.attach, target, first, number, 1),
        "attach instead of": attempt(links.attach, target, first, number, links.F_REPLACE, second),
        "attach": attempt(links.attach, target, first, number),
    }
    if steps["attach"] == "ok":
        steps |= _by_hand_attached(kind, target, other)


def _by_hand_attached(kind: str, target: int, other: int) -> Steps:
    number = TYPES[kind]
    first, second = counting(kind, "first").descriptor, counting(kind, "second").descriptor
    of_another = counting("sk_skb_verdict" if kind == "sk_msg_verdict" else "sk_msg_verdict", "first").descriptor
    elsewhere = TYPES["sk_skb_stream_verdict" if kind == "sk_skb_stream_parser" else "sk_skb_stream_parser"]
    return {
        "attached: holds": holder(target, kind),
        "attached: count": _count(target, number),
        "attached: other map holds": holder(other, kind),
        "attach it again": attempt(links.attach, target, first, number),
        "detach no descriptor": attempt(links.detach, target, _NO_DESCRIPTOR, number),
        "detach a map": attempt(links.detach, target, other, number),
        "detach another": attempt(links.detach, target, second, number),
        "detach another type": attempt(links.detach, target, of_another, number),
        "detach from elsewhere": attempt(links.detach, target, first, elsewhere),
        "detach from the other map": attempt(links.detach, other, first, number),
        "detach with flags": attempt(links.detach, target, first, number, 1),
        "query with flags": attempt(links.query, target, number, 1),
        "after all that: holds": holder(target, kind),
        "replace": attempt(links.attach, target, second, number),
        "replaced: holds": holder(target, kind),
        "detach the replaced": attempt(links.detach, target, first, number),
        "detach": attempt(links.detach, target, second, number),
        "detached: holds": holder(target, kind),
        "detach again": attempt(links.detach, target, second, number),
        "closed: holds": _held_when_closed(target, kind),
    }


@scenario
def targets(keep: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Attach, as `attach`, to `what`, which is not a map of sockets."""
    number = TYPES[params["attach"]]
    loaded = counting(params["attach"], "first").descriptor
    target = _TARGETS[params["what"]](keep)
    link = opens(links.create, target, loaded, number)
    steps["attach"] = attempt(links.attach, target, loaded, number)
    steps["detach"] = attempt(links.detach, target, loaded, number)
    steps["query"] = attempt(links.query, target, number)
    steps["link"] = link


def create(keep: Fixture, target: int, loaded: int, number: int) -> tuple[str, int]:
    """Make a link; `"ok"` and its descriptor, or the errno and -1."""
    link = outcome(links.create, target, loaded, number)
    return (link, -1) if isinstance(link, str) else ("ok", keep.keep(link))


def holder(target: int, attach_type: str, names: Mapping[int, str] | None = None) -> str:
    """Return which program a map holds: `none`, `first`, `second`, `another`, or the errno of the query."""
    found = outcome(links.query, target, TYPES[attach_type])
    if isinstance(found, str):
        return found
    known = {counting(attach_type, which).id: which for which in ("first", "second")} | dict(names or {})
    return ", ".join(known.get(identity, "another") for identity in found) or "none"


def _put(keep: Fixture, way: str, target: int, attach_type: str, which: str) -> tuple[str, int]:
    loaded, number = counting(attach_type, which).descriptor, TYPES[attach_type]
    if way == "link":
        return create(keep, target, loaded, number)
    return attempt(links.attach, target, loaded, number), -1


def _count(target: int, number: int) -> str:
    """Query the number of programs of a map, without a buffer for their ids."""
    found = outcome(links.query, target, number, 0, 0)
    return found if isinstance(found, str) else str(len(found))


def _held_when_closed(target: int, kind: str) -> str:
    """Attach a program, and close its last descriptor."""
    loaded = asm.load_program(CONTEXTS[fixture.family(kind)], asm.put(asm.R0, 1) + asm.EXIT)
    try:
        links.attach(target, loaded, TYPES[kind])
        names = {links.program_id(loaded): "the closed"}
    finally:
        os.close(loaded)
    return holder(target, kind, names)


_TARGETS: dict[str, Callable[[Fixture], int]] = {
    "array": lambda keep: keep.keep(syscall.create_map(syscall.MAP_TYPES["array"], 4, 4, 4)),
    "map_of_sockmaps": lambda keep: keep.keep(maps.create(12, 4, 4, 1, inner=keep.map("sockmap"))),
    "program": lambda keep: counting("sk_skb_verdict", "second").descriptor,
    "socket": lambda keep: keep.enter_context(socket.socket()).fileno(),
    "pipe": Fixture.pipe,
    "closed": lambda keep: closed(),
    "none": lambda keep: _NO_DESCRIPTOR,
}


_PULL_DATA, _CHANGE_TAIL, _CHANGE_HEAD, _ADJUST_ROOM, _STORE_BYTES, _LOAD_BYTES, _TAIL_CALL = 39, 38, 43, 50, 9, 26, 12
_DATA, _DATA_END = 76, 80
"""Offsets in `struct __sk_buff`."""
_PROG_ARRAY = 3

_BYTE = asm.store(asm.STACK, -8, 0) + asm.move(asm.R3, asm.STACK) + asm.add(asm.R3, -8) + asm.put(asm.R4, 1)
_NOTHING = b"".join(asm.put(register, 0) for register in (asm.R2, asm.R3, asm.R4, asm.R5))
_BOUNDS = asm.load_word(asm.R2, asm.R1, _DATA) + asm.load_word(asm.R3, asm.R1, _DATA_END)

_PROGRAMS = {
    "nothing": b"",
    "load_bytes": asm.put(asm.R2, 0) + _BYTE + asm.call(_LOAD_BYTES),
    "read": asm.if_room(_BOUNDS, 1, asm.load_byte(asm.R0, asm.R2)),
    "pull_data": _NOTHING + asm.call(_PULL_DATA),
    "change_tail": _NOTHING + asm.call(_CHANGE_TAIL),
    "change_head": _NOTHING + asm.call(_CHANGE_HEAD),
    "adjust_room": _NOTHING + asm.call(_ADJUST_ROOM),
    "store_bytes": _BYTE + asm.put(asm.R2, 0) + asm.put(asm.R5, 0) + asm.call(_STORE_BYTES),
    "write": asm.if_room(_BOUNDS, 1, asm.store_byte(asm.R2, 0)),
}


@scenario
def parser(keep: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Attach a parser that `does` something to the packet, to a `map`; then the same program as verdict."""
    target, other = keep.map(params["map"]), keep.map(params["map"])
    with possible(steps, "load"):
        loaded = keep.keep(asm.load_program(CONTEXTS["sk_skb"], _code(params["does"], keep)))
    number = TYPES["sk_skb_stream_parser"]
    steps |= {"load": "ok", "attach": attempt(links.attach, target, loaded, number)}
    if steps["attach"] == "ok":
        links.detach(target, loaded, number)
    steps["link"] = opens(links.create, target, loaded, number)
    plain, link = create(keep, other, counting("sk_skb_stream_parser", "first").descriptor, number)
    if plain == "ok":
        steps["update a link"] = attempt(links.update, link, loaded)
        steps["holds"] = holder(other, "sk_skb_stream_parser", {links.program_id(loaded): "it"})
    steps["attach as verdict"] = attempt(links.attach, target, loaded, TYPES["sk_skb_stream_verdict"])


def _code(does: str, keep: Fixture) -> bytes:
    keep_context, result = asm.move(asm.R6, asm.R1), asm.load_word(asm.R0, asm.R6, 0) + asm.EXIT
    if does == "tail_call":
        programs = keep.keep(syscall.create_map(_PROG_ARRAY, 4, 4, 1))
        jump = asm.put_map(asm.R2, programs) + asm.put(asm.R3, 0) + asm.call(_TAIL_CALL)
        return keep_context + jump + result
    if does == "subprogram":
        after = keep_context + asm.call_after(result) + result
        return after + _PROGRAMS["change_tail"] + asm.put(asm.R0, 0) + asm.EXIT
    return keep_context + _PROGRAMS[does] + result
