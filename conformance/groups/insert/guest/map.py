# SPDX-License-Identifier: GPL-2.0-only
"""All bpf(2) commands on a SOCKMAP or SOCKHASH with TCP sockets, right and wrong ones."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping

from bpf.guest import assemble as asm
from bpf.guest import maps, syscall
from bpf.guest.contexts import CONTEXTS
from conformance.groups.insert.guest.setup import InsertSetup, following, key, value
from conformance.groups.insert.guest.whole import WHOLE
from conformance.guestlib import states
from conformance.guestlib.answers import Steps, attempt, by_name, name_of
from conformance.guestlib.fixture import Fixture, Map, closed, scenario

_BOTH = maps.NOEXIST | maps.EXIST
"""Flags that make no sense together."""


@scenario
def run(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Carry out one case; `params`: `map`, `about`, a name in `ABOUT`, whose functions document the steps."""
    steps |= ABOUT[params["about"]](InsertSetup(params["map"], fixture))


def _update(flags: int) -> Callable[[InsertSetup], Steps]:
    """Insert with flags into an empty and a used slot, and look the slot up afterwards."""

    def update(case: InsertSetup) -> Steps:
        table, first, second = case.map(), case.connected(), case.connected()
        steps = {"empty": table.insert(first, 0, flags), "empty then": table.whose(0, first, second)}
        steps["plain"] = table.insert(first, 1)
        steps["used"] = table.insert(second, 1, flags)
        return steps | {"used then": table.whose(1, first, second)}

    return update


def _range(case: InsertSetup) -> Steps:
    """Use the last index, the one after it, and the largest there is."""
    table, end = case.map(4), case.connected()
    steps = {}
    for label, number in (("last", 3), ("next", 4), ("largest", (1 << 32) - 1)):
        steps[f"{label} lookup empty"] = table.whose(number, end)
        steps[f"{label} insert"] = table.insert(end, number)
        steps[f"{label} lookup"] = table.whose(number, end)
        steps[f"{label} delete"] = table.delete(number)
        steps[f"{label} delete again"] = table.delete(number)
    return steps


def _full(case: InsertSetup) -> Steps:
    """Fill a map with two entries, then insert more."""
    table, end, other = case.map(2), case.connected(), case.connected()
    steps = {"first": table.insert(end), "second": table.insert(end, 1)}
    steps["third"] = table.insert(end, 2)
    steps["third, noexist"] = table.insert(end, 2, maps.NOEXIST)
    steps["third, exist"] = table.insert(end, 2, maps.EXIST)
    steps["replace"] = table.insert(other, 1)
    steps["replaced"] = table.whose(1, end, other)
    steps["delete"] = table.delete()
    return steps | {"again": table.insert(other)}


def _small_values(case: InsertSetup) -> Steps:
    """Use a map with 4-byte values, which cannot hold a cookie."""
    table, end = case.map(value_size=4), case.connected()
    steps = {"lookup empty": attempt(maps.lookup, table, key(0), 4)}
    steps["insert"] = attempt(maps.update, table, key(0), struct.pack("=I", end.fileno()))
    steps["lookup"] = attempt(maps.lookup, table, key(0), 4)
    return steps | {"next": following(table, None), "delete": table.delete()}


def _keys_of(size: int) -> Callable[[InsertSetup], Steps]:
    """Use keys of a size that differ in the last byte only."""

    def use(case: InsertSetup) -> Steps:
        table, first, second = case.map(key_size=size), case.connected(), case.connected()
        keys = [bytes(size - 1) + last for last in (b"a", b"b", b"c")]
        steps = {
            f"insert {n}": attempt(maps.update, table, keys[n], value(end)) for n, end in enumerate((first, second))
        }
        steps |= {f"lookup {n}": table.whose(at, first, second) for n, at in enumerate(keys)}
        steps["walk"] = _walk(table, size, keys)
        steps |= {f"delete {n}": attempt(maps.delete, table, at) for n, at in enumerate(keys)}
        return steps | {"walk empty": _walk(table, size, keys)}

    return use


def _walk(table: int, size: int, keys: list[bytes]) -> str:
    """Return the keys found, as numbers in `keys`, in sorted order."""
    found: list[str] = []
    at: bytes | None = None
    try:
        while len(found) < 9:
            at = maps.next_key(table, at, size)
            found.append(str(keys.index(at)) if at in keys else at.hex())
    except OSError as error:
        found.sort()
        found.append(name_of(error))
    return " ".join(found)


def _one_slot(case: InsertSetup) -> Steps:
    """Insert the same socket again where it is."""
    table, end = case.map(), case.connected()
    steps = {"insert": table.insert(end), "again": table.insert(end)}
    steps["exist"] = table.insert(end, 0, maps.EXIST)
    steps["noexist"] = table.insert(end, 0, maps.NOEXIST)
    steps["lookup"] = table.whose(0, end)
    return steps | {"delete": table.delete(), "delete again": table.delete()}


def _one_slot_program(case: InsertSetup) -> Steps:
    """Insert the same socket again where it is, in a map that has a program."""
    table, _, end = _both(case)
    steps = {"again": table.insert(end), "exist": table.insert(end, 0, maps.EXIST)}
    steps |= {"other slot": table.insert(end, 1), "lookup": table.whose(0, end)}
    return steps | {"delete": table.delete(), "other slot then": table.insert(end, 1)}


def _many_slots(case: InsertSetup) -> Steps:
    """Insert one socket in every slot; each entry is independent."""
    table, end = case.map(4), case.connected()
    steps = {f"insert {n}": table.insert(end, n) for n in range(4)}
    steps["delete 1"] = table.delete(1)
    steps |= {f"lookup {n}": table.whose(n, end) for n in range(4)}
    return steps | {f"delete {n}": table.delete(n) for n in (0, 2, 3)} | {"again": table.insert(end)}


def _many_maps(case: InsertSetup) -> Steps:
    """Insert one socket in several maps, one of the other type; each entry is independent."""
    all_maps, end = [case.map(), case.map(), case.other_map()], case.connected()
    steps = {f"insert {n}": table.insert(end) for n, table in enumerate(all_maps)}
    steps["delete 0"] = all_maps[0].delete()
    steps |= {f"lookup {n}": table.whose(0, end) for n, table in enumerate(all_maps)}
    return steps | {f"delete {n}": all_maps[n].delete() for n in (1, 2)}


def _replaced(case: InsertSetup) -> Steps:
    """Replace a socket by another, and that by one of another kind; a replaced socket can be inserted again."""
    table, first, second = case.map(), case.connected(), case.connected()
    third = states.make("udp4", "bound", case.fixture)
    ends = (first, second, third)
    steps = {"insert": table.insert(first), "any": table.insert(second), "then": table.whose(0, *ends)}
    steps |= {"exist": table.insert(third, 0, maps.EXIST), "then exist": table.whose(0, *ends)}
    return steps | {"back": table.insert(first), "then back": table.whose(0, *ends)}


def _lookup(case: InsertSetup) -> Steps:
    """Look a socket up before insertion, after it, and after deletion; and with flags."""
    table, end = case.map(), case.connected()
    steps = {"empty": table.whose(0, end), "insert": table.insert(end), "used": table.whose(0, end)}
    steps["lock"] = attempt(maps.lookup, table, key(0), 8, maps.LOCK)
    steps["unknown flag"] = attempt(maps.lookup, table, key(0), 8, 1)
    return steps | {"delete": table.delete(), "deleted": table.whose(0, end)}


def _delete(case: InsertSetup) -> Steps:
    """Delete an empty slot, a used one, and that again; then insert again."""
    table, end = case.map(), case.connected()
    steps = {"empty": table.delete(), "insert": table.insert(end), "used": table.delete()}
    return steps | {"again": table.delete(), "insert again": table.insert(end)}


def _next_key(case: InsertSetup) -> Steps:
    """Ask for the key after none, after a used one, after an unknown one, and after the last."""
    table, end = case.map(3), case.connected()
    steps = {"empty": following(table, None), "empty after 1": following(table, 1)}
    steps |= {"insert": table.insert(end, 1), "first": following(table, None)}
    return steps | {f"after {n}": following(table, n) for n in (0, 1, 2, 3, (1 << 32) - 1)}


def _lookup_and_delete(case: InsertSetup) -> Steps:
    """Look up and delete at once."""
    table, end = case.map(), case.connected()
    steps = {"insert": table.insert(end), "take": attempt(maps.take, table, key(0), 8)}
    return steps | {"lookup": table.whose(0, end)}


def _batch(command: str) -> Callable[[InsertSetup], Steps]:
    """Run a batch command on several entries, and look them up afterwards."""

    def batch(case: InsertSetup) -> Steps:
        table, end = case.map(), case.connected()
        steps = {"insert": table.insert(end)}
        steps["batch"] = attempt(maps.batch, command, table, key(0) + key(1), value(end) * 2, 2)
        return steps | {f"lookup {n}": table.whose(n, end) for n in (0, 1)}

    return batch


def _pointers(case: InsertSetup) -> Steps:
    """Pass pointers to unmapped memory."""
    table, end = case.map(), case.connected()
    return {
        "key": attempt(maps.update, table, None, value(end)),
        "value": attempt(maps.update, table, key(0), None),
        "lookup": attempt(maps.lookup, table, None, 8),
        "delete": attempt(maps.delete, table, None),
    }


def _both(case: InsertSetup) -> tuple[Map, Map, socket.socket]:
    """Return two maps with a program for what a socket sends, and a socket in the first."""
    program = case.fixture.keep(asm.load_program(CONTEXTS["sk_msg"], asm.put(asm.R0, 1) + asm.EXIT))
    first, second, end = case.map(), case.map(), case.connected()
    for table in (first, second):
        syscall.attach(table, program, "sk_msg_verdict")
    assert first.insert(end) == "ok"
    return first, second, end


def _order(case: InsertSetup) -> Steps:
    """Make two mistakes at once, and see which one decides the errno; `A, B` names the mistakes."""
    unfit, fit, out = states.make("tcp4", "fresh", case.fixture), case.connected(), 1 << 20
    table, other = case.map(), case.fixture.pipe()
    reading = case.map(flags=maps.RDONLY)
    return {
        "closed map, closed socket": Map(closed()).insert(closed()),
        "closed map, flags": Map(closed()).insert(fit, 0, _BOTH),
        "map without write, closed socket": reading.insert(closed()),
        "map without write, lock": reading.insert(fit, 0, maps.LOCK),
        "lock, closed socket": table.insert(closed(), 0, maps.LOCK),
        "lock, key pointer": attempt(maps.update, table, None, value(fit), maps.LOCK),
        "key pointer, closed socket": attempt(maps.update, table, None, value(closed())),
        "closed, flags": table.insert(closed(), 0, _BOTH),
        "closed, flag of a CPU": table.insert(closed(), 0, maps.CPU),
        "closed, range": table.insert(closed(), out),
        "no socket, flags": table.insert(other, 0, _BOTH),
        "no socket, range": table.insert(other, out),
        "beyond int, range": table.insert(1 << 31, out),
        "unfit, flags": table.insert(unfit, 0, _BOTH),
        "unfit, range": table.insert(unfit, out),
        "unfit, exist": table.insert(unfit, 0, maps.EXIST),
        "flags, range": table.insert(fit, out, _BOTH),
        "range, exist": table.insert(fit, out, maps.EXIST),
    }


def _order_busy(case: InsertSetup) -> Steps:
    """Make a second mistake with a socket that carries another map's program."""
    _, table, busy = _both(case)
    other, third = case.connected(), case.connected()
    steps = {
        "busy": table.insert(busy),
        "busy, flags": table.insert(busy, 0, _BOTH),
        "busy, range": table.insert(busy, 1 << 20),
        "busy, exist": table.insert(busy, 0, maps.EXIST),
        "fill": table.insert(other, 1),
        "busy, noexist": table.insert(busy, 1, maps.NOEXIST),
    }
    steps |= {f"fill {n}": table.insert(case.connected(), n) for n in (0, 2, 3)}
    steps |= {"busy, full": table.insert(busy, 4), "lookup": table.whose(1, other)}
    # A socket refused for another reason must not carry the program.
    steps["noexist"] = table.insert(third, 1, maps.NOEXIST)
    return steps | {"full": table.insert(third, 4), "still free": _both(case)[0].insert(third, 1)}


ABOUT: dict[str, Callable[[InsertSetup], Steps]] = {
    **WHOLE,
    **by_name(_range, _full, _small_values, _one_slot, _one_slot_program, _many_slots, _many_maps, _replaced),
    **by_name(_pointers, _lookup, _delete, _next_key, _lookup_and_delete, _order, _order_busy),
    "any": _update(maps.ANY),
    "noexist": _update(maps.NOEXIST),
    "exist": _update(maps.EXIST),
    "noexist-and-exist": _update(_BOTH),
    "lock": _update(maps.LOCK),
    "unknown-flag": _update(1 << 5),
    "highest-flag": _update(1 << 63),
    "flags-beyond-32-bits": _update(1 << 32 | maps.EXIST),
    **{f"keys-of-{size}": _keys_of(size) for size in (1, 2, 4, 8, 16, 40, 256, 511, 512)},
    **{f"batch-{command.replace('_', '-')}": _batch(command) for command in maps.BATCHES},
}
"""The topics of cases."""
