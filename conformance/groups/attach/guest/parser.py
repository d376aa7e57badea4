# SPDX-License-Identifier: GPL-2.0-only
"""Attach a parser that may change the packet, in every way a program can say so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from bpf.guest import assemble as asm
from bpf.guest import links
from bpf.guest.contexts import CONTEXTS
from conformance.groups.attach.guest.scenario import create
from conformance.guestlib import kit
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.kit import Steps
from conformance.guestlib.kit import holder
from conformance.guestlib.kit import make_map
from conformance.guestlib.kit import program

_PULL_DATA, _CHANGE_TAIL, _CHANGE_HEAD, _ADJUST_ROOM, _STORE_BYTES, _LOAD_BYTES, _TAIL_CALL = 39, 38, 43, 50, 9, 26, 12
_DATA, _DATA_END = 76, 80
"""Offsets in `struct __sk_buff`."""

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


def parser(params: Mapping[str, str]) -> dict[str, Steps]:
    """Attach a parser that `does` something to the packet, to a `map`; then the same program as verdict."""
    does = params["does"]
    with ExitStack() as keep:
        target, other = make_map(keep, params["map"]), make_map(keep, params["map"])
        context = CONTEXTS["sk_skb"]
        try:
            loaded = asm.load_program(context, _code(does, keep))
        except OSError as error:
            return {"steps": {"load": error_name(error.errno or 0)}}
        keep.callback(os.close, loaded)
        number = kit.TYPES["sk_skb_stream_parser"]
        steps = {"load": "ok", "attach": attempt(links.attach, target, loaded, number)}
        if steps["attach"] == "ok":
            links.detach(target, loaded, number)
        steps["link"], link = create(target, loaded, number)
        if link >= 0:
            os.close(link)
        plain, link = create(other, program("sk_skb_stream_parser", "first").descriptor, number)
        if plain == "ok":
            keep.callback(os.close, link)
            steps["update a link"] = attempt(links.update, link, loaded)
            steps["holds"] = holder(other, "sk_skb_stream_parser", {links.program_id(loaded): "it"})
        steps["attach as verdict"] = attempt(links.attach, target, loaded, kit.TYPES["sk_skb_stream_verdict"])
        return {"steps": steps}


def _code(does: str, keep: ExitStack) -> bytes:
    keep_context, result = asm.move(asm.R6, asm.R1), asm.load_word(asm.R0, asm.R6, 0) + asm.EXIT
    if does == "tail_call":
        jump = asm.put_map(asm.R2, make_map(keep, "prog_array", 1)) + asm.put(asm.R3, 0) + asm.call(_TAIL_CALL)
        return keep_context + jump + result
    if does == "subprogram":
        after = keep_context + asm.call_after(result) + result
        return after + _PROGRAMS["change_tail"] + asm.put(asm.R0, 0) + asm.EXIT
    return keep_context + _PROGRAMS[does] + result
