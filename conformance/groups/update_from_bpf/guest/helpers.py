# SPDX-License-Identifier: GPL-2.0-only
"""Ask the verifier which helpers the programs of a SOCKMAP or SOCKHASH may call. Nothing runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from bpf.guest import assemble as asm
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS
from conformance.groups.update_from_bpf.guest.scenario import try_load
from conformance.guestlib.kit import Steps

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
_MAPS = {"A": (2, 4, 8), "E": (4, 4, 4), "P": (3, 4, 4), "M": (15, 4, 4), "H": (18, 4, 4)}
"""Number of the map's type, sizes of key and value."""


def helpers(params: Mapping[str, str]) -> dict[str, Steps]:
    """Load a `program` that calls one helper of a `topic`, for each of them; answers as in `update_from_bpf`."""
    with ExitStack() as keep:
        maps = {}
        for letter, definition in _MAPS.items():
            maps[letter] = syscall.create_map(*definition, 1)
            keep.callback(os.close, maps[letter])
        context = CONTEXTS[params["program"]]
        calls = _TOPICS[params["topic"]].items()
        return {"steps": {name: try_load(context, _call(*call, maps)) for name, call in calls}}


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
