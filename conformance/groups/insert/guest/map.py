# SPDX-License-Identifier: GPL-2.0-only
"""Everything user space can ask of a SOCKMAP or SOCKHASH, right and wrong, with TCP sockets in it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import ExitStack

from bpf.guest import maps
from bpf.guest import syscall
from bpf.guest.assemble import EXIT
from bpf.guest.assemble import R0
from bpf.guest.assemble import load_program
from bpf.guest.assemble import put
from bpf.guest.contexts import CONTEXTS
from conformance.groups.insert.guest.bench import Bench
from conformance.groups.insert.guest.bench import Steps
from conformance.groups.insert.guest.bench import ask
from conformance.groups.insert.guest.bench import closed
from conformance.groups.insert.guest.bench import following
from conformance.groups.insert.guest.bench import insert
from conformance.groups.insert.guest.bench import key
from conformance.groups.insert.guest.bench import remove
from conformance.groups.insert.guest.bench import value
from conformance.groups.insert.guest.bench import whose
from conformance.groups.insert.guest.bench import whose_at
from conformance.groups.insert.guest.whole import WHOLE
from conformance.guestlib import states
from conformance.guestlib.answers import name_of

_BOTH = maps.NOEXIST | maps.EXIST
"""Flags that make no sense together."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case; `params`: `map`, `about`, a name in `ABOUT`, whose functions say what the steps are."""
    with ExitStack() as keep:
        return {"steps": ABOUT[params["about"]](Bench(params["map"], keep))}


def _update(flags: int) -> Callable[[Bench], Steps]:
    """Insert with flags where nothing is and where another socket is, and see who is there afterwards."""

    def update(bench: Bench) -> Steps:
        map_fd, first, second = bench.map(), bench.connected(), bench.connected()
        steps = {"empty": insert(map_fd, 0, first, flags), "empty then": whose(map_fd, 0, first, second)}
        steps["plain"] = insert(map_fd, 1, first)
        steps["used"] = insert(map_fd, 1, second, flags)
        return steps | {"used then": whose(map_fd, 1, first, second)}

    return update


def _range(bench: Bench) -> Steps:
    """Use the last index, the one after it, and the largest there is."""
    map_fd, end = bench.map(4), bench.connected()
    steps = {}
    for label, number in (("last", 3), ("next", 4), ("largest", (1 << 32) - 1)):
        steps[f"{label} lookup empty"] = whose(map_fd, number, end)
        steps[f"{label} insert"] = insert(map_fd, number, end)
        steps[f"{label} lookup"] = whose(map_fd, number, end)
        steps[f"{label} delete"] = remove(map_fd, number)
        steps[f"{label} delete again"] = remove(map_fd, number)
    return steps


def _full(bench: Bench) -> Steps:
    """Fill a map of two, and go on."""
    map_fd, end, other = bench.map(2), bench.connected(), bench.connected()
    steps = {"first": insert(map_fd, 0, end), "second": insert(map_fd, 1, end)}
    steps["third"] = insert(map_fd, 2, end)
    steps["third, noexist"] = insert(map_fd, 2, end, maps.NOEXIST)
    steps["third, exist"] = insert(map_fd, 2, end, maps.EXIST)
    steps["replace"] = insert(map_fd, 1, other)
    steps["replaced"] = whose(map_fd, 1, end, other)
    steps["delete"] = remove(map_fd, 0)
    return steps | {"again": insert(map_fd, 0, other)}


def _small_values(bench: Bench) -> Steps:
    """Use a map with 4-byte values, which cannot hold a cookie."""
    map_fd, end = bench.map(value_size=4), bench.connected()
    steps = {"lookup empty": ask(maps.lookup, map_fd, key(0), 4)}
    steps["insert"] = ask(maps.update, map_fd, key(0), struct.pack("=I", end.fileno()))
    steps["lookup"] = ask(maps.lookup, map_fd, key(0), 4)
    return steps | {"next": following(map_fd, None), "delete": remove(map_fd, 0)}


def _keys_of(size: int) -> Callable[[Bench], Steps]:
    """Use keys of a size that differ in the last byte only."""

    def use(bench: Bench) -> Steps:
        map_fd, first, second = bench.map(key_size=size), bench.connected(), bench.connected()
        keys = [bytes(size - 1) + last for last in (b"a", b"b", b"c")]
        steps = {f"insert {n}": ask(maps.update, map_fd, keys[n], value(end)) for n, end in enumerate((first, second))}
        steps |= {f"lookup {n}": whose_at(map_fd, at, first, second) for n, at in enumerate(keys)}
        steps["walk"] = _walk(map_fd, size, keys)
        steps |= {f"delete {n}": ask(maps.delete, map_fd, at) for n, at in enumerate(keys)}
        return steps | {"walk empty": _walk(map_fd, size, keys)}

    return use


def _walk(map_fd: int, size: int, keys: list[bytes]) -> str:
    """Tell which keys there are, as numbers in `keys`, whatever their order."""
    found: list[str] = []
    at: bytes | None = None
    try:
        while len(found) < 9:
            at = maps.next_key(map_fd, at, size)
            found.append(str(keys.index(at)) if at in keys else at.hex())
    except OSError as error:
        found.sort()
        found.append(name_of(error))
    return " ".join(found)


def _one_slot(bench: Bench) -> Steps:
    """Insert the same socket again where it is."""
    map_fd, end = bench.map(), bench.connected()
    steps = {"insert": insert(map_fd, 0, end), "again": insert(map_fd, 0, end)}
    steps["exist"] = insert(map_fd, 0, end, maps.EXIST)
    steps["noexist"] = insert(map_fd, 0, end, maps.NOEXIST)
    steps["lookup"] = whose(map_fd, 0, end)
    return steps | {"delete": remove(map_fd, 0), "delete again": remove(map_fd, 0)}


def _one_slot_program(bench: Bench) -> Steps:
    """Insert the same socket again where it is, in a map that has a program."""
    map_fd, _, end = _both(bench)
    steps = {"again": insert(map_fd, 0, end), "exist": insert(map_fd, 0, end, maps.EXIST)}
    steps |= {"other slot": insert(map_fd, 1, end), "lookup": whose(map_fd, 0, end)}
    return steps | {"delete": remove(map_fd, 0), "other slot then": insert(map_fd, 1, end)}


def _many_slots(bench: Bench) -> Steps:
    """Insert one socket in every slot; each entry is one of its own."""
    map_fd, end = bench.map(4), bench.connected()
    steps = {f"insert {n}": insert(map_fd, n, end) for n in range(4)}
    steps["delete 1"] = remove(map_fd, 1)
    steps |= {f"lookup {n}": whose(map_fd, n, end) for n in range(4)}
    return steps | {f"delete {n}": remove(map_fd, n) for n in (0, 2, 3)} | {"again": insert(map_fd, 0, end)}


def _many_maps(bench: Bench) -> Steps:
    """Insert one socket in several maps, one of the other type; each entry is one of its own."""
    all_maps, end = [bench.map(), bench.map(), bench.other_map()], bench.connected()
    steps = {f"insert {n}": insert(map_fd, 0, end) for n, map_fd in enumerate(all_maps)}
    steps["delete 0"] = remove(all_maps[0], 0)
    steps |= {f"lookup {n}": whose(map_fd, 0, end) for n, map_fd in enumerate(all_maps)}
    return steps | {f"delete {n}": remove(all_maps[n], 0) for n in (1, 2)}


def _replaced(bench: Bench) -> Steps:
    """Replace a socket by another, and that by one of another kind; who is replaced is free again."""
    map_fd, first, second = bench.map(), bench.connected(), bench.connected()
    third = states.make("udp4", "bound", bench.keep)
    ends = (first, second, third)
    steps = {"insert": insert(map_fd, 0, first), "any": insert(map_fd, 0, second), "then": whose(map_fd, 0, *ends)}
    steps |= {"exist": insert(map_fd, 0, third, maps.EXIST), "then exist": whose(map_fd, 0, *ends)}
    return steps | {"back": insert(map_fd, 0, first), "then back": whose(map_fd, 0, *ends)}


def _lookup(bench: Bench) -> Steps:
    """Look up what is not there yet, there, not there any more; with flags."""
    map_fd, end = bench.map(), bench.connected()
    steps = {"empty": whose(map_fd, 0, end), "insert": insert(map_fd, 0, end), "used": whose(map_fd, 0, end)}
    steps["lock"] = ask(maps.lookup, map_fd, key(0), 8, maps.LOCK)
    steps["unknown flag"] = ask(maps.lookup, map_fd, key(0), 8, 1)
    return steps | {"delete": remove(map_fd, 0), "deleted": whose(map_fd, 0, end)}


def _delete(bench: Bench) -> Steps:
    """Delete nothing, something, and that again; then insert anew."""
    map_fd, end = bench.map(), bench.connected()
    steps = {"empty": remove(map_fd, 0), "insert": insert(map_fd, 0, end), "used": remove(map_fd, 0)}
    return steps | {"again": remove(map_fd, 0), "insert again": insert(map_fd, 0, end)}


def _next_key(bench: Bench) -> Steps:
    """Ask for the key after none, after one that is there, after one that is not, after the last."""
    map_fd, end = bench.map(3), bench.connected()
    steps = {"empty": following(map_fd, None), "empty after 1": following(map_fd, 1)}
    steps |= {"insert": insert(map_fd, 1, end), "first": following(map_fd, None)}
    return steps | {f"after {n}": following(map_fd, n) for n in (0, 1, 2, 3, (1 << 32) - 1)}


def _take(bench: Bench) -> Steps:
    """Look up and delete at once."""
    map_fd, end = bench.map(), bench.connected()
    steps = {"insert": insert(map_fd, 0, end), "take": ask(maps.take, map_fd, key(0), 8)}
    return steps | {"lookup": whose(map_fd, 0, end)}


def _batch(command: str) -> Callable[[Bench], Steps]:
    """Do a command on several entries at once, and see whether they are still there."""

    def batch(bench: Bench) -> Steps:
        map_fd, end = bench.map(), bench.connected()
        steps = {"insert": insert(map_fd, 0, end)}
        steps["batch"] = ask(maps.batch, command, map_fd, key(0) + key(1), value(end) * 2, 2)
        return steps | {f"lookup {n}": whose(map_fd, n, end) for n in (0, 1)}

    return batch


def _pointers(bench: Bench) -> Steps:
    """Point to nowhere."""
    map_fd, end = bench.map(), bench.connected()
    return {
        "key": ask(maps.update, map_fd, None, value(end)),
        "value": ask(maps.update, map_fd, key(0), None),
        "lookup": ask(maps.lookup, map_fd, None, 8),
        "delete": ask(maps.delete, map_fd, None),
    }


def _both(bench: Bench) -> tuple[int, int, socket.socket]:
    """Return two maps with a program for what a socket sends, and a socket in the first."""
    program = bench.owned(load_program(CONTEXTS["sk_msg"], put(R0, 1) + EXIT))
    first, second, end = bench.map(), bench.map(), bench.connected()
    for map_fd in (first, second):
        syscall.attach(map_fd, program, "sk_msg_verdict")
    assert insert(first, 0, end) == "ok"
    return first, second, end


def _order(bench: Bench) -> Steps:
    """Be wrong in two ways at once: which is told? `A, B` names what is wrong."""
    unfit, fit, out = bench.unfit(), bench.connected(), 1 << 20
    map_fd, pipe = bench.map(), bench.pipe()
    reading = bench.map(flags=maps.RDONLY)
    return {
        "closed map, closed socket": insert(closed(), 0, closed()),
        "closed map, flags": insert(closed(), 0, fit, _BOTH),
        "map without write, closed socket": insert(reading, 0, closed()),
        "map without write, lock": insert(reading, 0, fit, maps.LOCK),
        "lock, closed socket": insert(map_fd, 0, closed(), maps.LOCK),
        "lock, key pointer": ask(maps.update, map_fd, None, value(fit), maps.LOCK),
        "key pointer, closed socket": ask(maps.update, map_fd, None, value(closed())),
        "closed, flags": insert(map_fd, 0, closed(), _BOTH),
        "closed, flag of a CPU": insert(map_fd, 0, closed(), maps.CPU),
        "closed, range": insert(map_fd, out, closed()),
        "no socket, flags": insert(map_fd, 0, pipe, _BOTH),
        "no socket, range": insert(map_fd, out, pipe),
        "beyond int, range": insert(map_fd, out, 1 << 31),
        "unfit, flags": insert(map_fd, 0, unfit, _BOTH),
        "unfit, range": insert(map_fd, out, unfit),
        "unfit, exist": insert(map_fd, 0, unfit, maps.EXIST),
        "flags, range": insert(map_fd, out, fit, _BOTH),
        "range, exist": insert(map_fd, out, fit, maps.EXIST),
    }


def _order_busy(bench: Bench) -> Steps:
    """Be wrong in a second way with a socket that another map's program keeps out."""
    _, map_fd, busy = _both(bench)
    other, third = bench.connected(), bench.connected()
    steps = {
        "busy": insert(map_fd, 0, busy),
        "busy, flags": insert(map_fd, 0, busy, _BOTH),
        "busy, range": insert(map_fd, 1 << 20, busy),
        "busy, exist": insert(map_fd, 0, busy, maps.EXIST),
        "fill": insert(map_fd, 1, other),
        "busy, noexist": insert(map_fd, 1, busy, maps.NOEXIST),
    }
    steps |= {f"fill {n}": insert(map_fd, n, bench.connected()) for n in (0, 2, 3)}
    steps |= {"busy, full": insert(map_fd, 4, busy), "lookup": whose(map_fd, 1, other)}
    # What was refused for another reason must not have been bound to the program.
    steps["noexist"] = insert(map_fd, 1, third, maps.NOEXIST)
    return steps | {"full": insert(map_fd, 4, third), "still free": insert(_both(bench)[0], 1, third)}


ABOUT: dict[str, Callable[[Bench], Steps]] = {
    **WHOLE,
    "any": _update(maps.ANY),
    "noexist": _update(maps.NOEXIST),
    "exist": _update(maps.EXIST),
    "noexist-and-exist": _update(_BOTH),
    "lock": _update(maps.LOCK),
    "unknown-flag": _update(1 << 5),
    "highest-flag": _update(1 << 63),
    "flags-beyond-32-bits": _update(1 << 32 | maps.EXIST),
    "range": _range,
    "full": _full,
    "small-values": _small_values,
    **{f"keys-of-{size}": _keys_of(size) for size in (1, 2, 4, 8, 16, 40, 256, 511, 512)},
    "one-slot": _one_slot,
    "one-slot-program": _one_slot_program,
    "many-slots": _many_slots,
    "many-maps": _many_maps,
    "replaced": _replaced,
    "lookup": _lookup,
    "delete": _delete,
    "next-key": _next_key,
    "lookup-and-delete": _take,
    **{f"batch-{command.replace('_', '-')}": _batch(command) for command in maps.BATCHES},
    "pointers": _pointers,
    "order": _order,
    "order-busy": _order_busy,
}
"""What a case can be about."""
