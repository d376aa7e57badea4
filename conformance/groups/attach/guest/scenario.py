# SPDX-License-Identifier: GPL-2.0-only
"""Attach programs to maps in every way, and see what the map holds afterwards. No socket is involved.

Each function is a scenario. Answers are `"ok"` or an errno; of a query `none`, `first` or `second`, the program held.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import ExitStack

from bpf.guest import assemble as asm
from bpf.guest import links
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS
from conformance.groups.update_from_bpf.guest.scenario import FORBIDDEN
from conformance.guestlib import kit
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.kit import Steps
from conformance.guestlib.kit import holder
from conformance.guestlib.kit import make_map
from conformance.guestlib.kit import program

UNKNOWN_TYPE = 250
"""No attach type has this number."""
_NO_DESCRIPTOR = (1 << 32) - 1


def types(params: Mapping[str, str]) -> dict[str, Steps]:
    """Attach a `program` of any kind to a `map`, as each attach type there is, by hand and by a link.

    `load` is there if it cannot be loaded, `available` if even root is forbidden to, each alone.
    """
    context = CONTEXTS[params["program"]]
    with ExitStack() as keep:
        try:
            loaded = asm.load_program(context, asm.put(asm.R0, context.answer) + asm.EXIT)
        except LookupError:
            return {"steps": {"load": "no such function"}}
        except OSError as error:
            answer = error_name(error.errno or 0)
            return {"steps": {"available" if answer == FORBIDDEN else "load": answer}}
        keep.callback(os.close, loaded)
        target = make_map(keep, params["map"])
        steps = {}
        for name, number in {**kit.TYPES, "unknown": UNKNOWN_TYPE}.items():
            steps[f"attach {name}"] = attempt(links.attach, target, loaded, number)
            if steps[f"attach {name}"] == "ok":
                links.detach(target, loaded, number)
            steps[f"link {name}"], link = create(target, loaded, number)
            if link >= 0:
                os.close(link)
        return {"steps": steps}


def pair(params: Mapping[str, str]) -> dict[str, Steps]:
    """Attach as `first` and then as `second` to one `map`; `by` says how: `hand-hand`, `hand-link` and so on."""
    first, second = params["first"], params["second"]
    ways = params["by"].split("-")
    with ExitStack() as keep:
        target = make_map(keep, params["map"])
        steps: Steps = {}
        steps["first"], link = _put(ways[0], target, first, "first")
        steps["second"], other = _put(ways[1], target, second, "second")
        if other >= 0:
            keep.callback(os.close, other)
        steps["holds first"] = holder(target, first)
        if second != first:
            steps["holds second"] = holder(target, second)
        if steps["first"] == "ok":
            if link >= 0:
                os.close(link)
            else:
                loaded = program(first, "first").descriptor
                steps["detach first"] = attempt(links.detach, target, loaded, kit.TYPES[first])
            steps["holds first, then"] = holder(target, first)
        if steps["second"] != "ok":
            steps["second, then"], other = _put(ways[1], target, second, "second")
            if other >= 0:
                keep.callback(os.close, other)
        return {"steps": steps}


def by_hand(params: Mapping[str, str]) -> dict[str, Steps]:
    """Attach, replace and detach by hand as `attach`, in a `map`, the right program and every wrong one."""
    kind = params["attach"]
    number = kit.TYPES[kind]
    first, second = program(kind, "first").descriptor, program(kind, "second").descriptor
    with ExitStack() as keep:
        target, other = make_map(keep, params["map"]), make_map(keep, params["map"])
        steps = {
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
        return {"steps": steps}


def _by_hand_attached(kind: str, target: int, other: int) -> Steps:
    number = kit.TYPES[kind]
    first, second = program(kind, "first").descriptor, program(kind, "second").descriptor
    stranger = program("sk_skb_verdict" if kind == "sk_msg_verdict" else "sk_msg_verdict", "first").descriptor
    elsewhere = kit.TYPES["sk_skb_stream_verdict" if kind == "sk_skb_stream_parser" else "sk_skb_stream_parser"]
    return {
        "attached: holds": holder(target, kind),
        "attached: count": _count(target, number),
        "attached: other map holds": holder(other, kind),
        "attach it again": attempt(links.attach, target, first, number),
        "detach no descriptor": attempt(links.detach, target, _NO_DESCRIPTOR, number),
        "detach a map": attempt(links.detach, target, other, number),
        "detach another": attempt(links.detach, target, second, number),
        "detach another type": attempt(links.detach, target, stranger, number),
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


def targets(params: Mapping[str, str]) -> dict[str, Steps]:
    """Attach, as `attach`, to `what` is no map of sockets."""
    number = kit.TYPES[params["attach"]]
    loaded = program(params["attach"], "first").descriptor
    with ExitStack() as keep:
        target = _TARGETS[params["what"]](keep)
        link, descriptor = create(target, loaded, number)
        if descriptor >= 0:
            os.close(descriptor)
        return {
            "steps": {
                "attach": attempt(links.attach, target, loaded, number),
                "detach": attempt(links.detach, target, loaded, number),
                "query": attempt(links.query, target, number),
                "link": link,
            }
        }


def create(target: int, loaded: int, number: int) -> tuple[str, int]:
    """Make a link; `"ok"` and its descriptor, or the errno and -1."""
    try:
        return "ok", links.create(target, loaded, number)
    except OSError as error:
        return error_name(error.errno or 0), -1


def _put(way: str, target: int, attach_type: str, which: str) -> tuple[str, int]:
    loaded, number = program(attach_type, which).descriptor, kit.TYPES[attach_type]
    if way == "link":
        return create(target, loaded, number)
    return attempt(links.attach, target, loaded, number), -1


def _count(target: int, number: int) -> str:
    """Ask how many programs a map holds, without room for their ids."""
    try:
        return str(len(links.query(target, number, room=0)))
    except OSError as error:
        return error_name(error.errno or 0)


def _held_when_closed(target: int, kind: str) -> str:
    """Attach a program of which nobody else has a descriptor."""
    loaded = asm.load_program(CONTEXTS[kit.family(kind)], asm.put(asm.R0, 1) + asm.EXIT)
    try:
        links.attach(target, loaded, kit.TYPES[kind])
        names = {links.program_id(loaded): "the closed"}
    finally:
        os.close(loaded)
    return holder(target, kind, names)


def _open_map(kind: str) -> Callable[[ExitStack], int]:
    return lambda keep: make_map(keep, kind)


def _pipe(keep: ExitStack) -> int:
    ends = os.pipe()
    for end in ends:
        keep.callback(os.close, end)
    return ends[0]


def _closed(keep: ExitStack) -> int:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    return reader


def _map_of_maps(keep: ExitStack) -> int:
    # type, key size, value size, entries, flags, inner map
    inner = make_map(keep, "sockmap")
    attributes = bytearray(b"".join(number.to_bytes(4, "little") for number in (12, 4, 4, 1, 0, inner)))
    descriptor = syscall.call(0, attributes)
    keep.callback(os.close, descriptor)
    return descriptor


_TARGETS: dict[str, Callable[[ExitStack], int]] = {
    "array": _open_map("array"),
    "map_of_sockmaps": _map_of_maps,
    "program": lambda keep: program("sk_skb_verdict", "second").descriptor,
    "socket": lambda keep: keep.enter_context(socket.socket()).fileno(),
    "pipe": _pipe,
    "closed": _closed,
    "none": lambda keep: _NO_DESCRIPTOR,
}
