# SPDX-License-Identifier: GPL-2.0-only
"""Create, pin, open, freeze and nest a SOCKMAP or SOCKHASH by bpf(2), and record each answer."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from bpf.guest import maps, syscall
from conformance.groups.insert.guest.setup import InsertSetup, following, key
from conformance.guestlib import procfs
from conformance.guestlib.answers import Steps, attempt, by_name, name_of
from conformance.guestlib.fixture import Map, closed


def _create(what: str, *sizes: int) -> Callable[[InsertSetup], Steps]:
    """Create with keys or values of N bytes, or with room for N: `N`."""
    return lambda case: {f"{size}": attempt(case.map, **{what: size}) for size in sizes}


def _creation_flags(case: InsertSetup) -> Steps:
    """Create with one flag, `bit N`, and with read-only and write-only at once, `both`."""
    steps = {f"bit {bit}": attempt(case.map, flags=1 << bit) for bit in range(14)}
    return steps | {"both": attempt(case.map, flags=maps.RDONLY | maps.WRONLY)}


def _limited(flags: int, **more: Callable[[int], None]) -> Callable[[InsertSetup], Steps]:
    """Ask everything of a map that user space may only read, or only write."""

    def ask(case: InsertSetup) -> Steps:
        table, end = case.map(flags=flags), case.connected()
        steps = {"insert": table.insert(end), "lookup": table.whose(0, end), "next": following(table, None)}
        steps["delete"] = table.delete()
        return steps | {name: attempt(call, table) for name, call in more.items()}

    return ask


def _outer(kind: int) -> Callable[[InsertSetup], Steps]:
    """Put maps of sockets into an array or a hash of maps."""

    def put(case: InsertSetup) -> Steps:
        inner, end = case.map(4), case.connected()
        try:
            outer = case.fixture.keep(maps.create(kind, 4, 4, 2, inner=inner))
        except OSError as error:
            return {"create": name_of(error)}
        steps = {"create": "ok", "put": attempt(maps.update, outer, key(0), struct.pack("=I", inner))}
        others = {
            "put larger": case.map(8),
            "put small values": case.map(value_size=4),
            "put other type": case.other_map(),
            "put socket": end.fileno(),
        }
        for label, other in others.items():
            steps[label] = attempt(maps.update, outer, key(1), struct.pack("=I", other))
        steps["insert"] = inner.insert(end)
        number = int.from_bytes(maps.lookup(outer, key(0), 4), "little")
        same = case.opened(maps.open_by_id(number))
        return steps | {"lookup": same.whose(0, end), "take out": attempt(maps.delete, outer, key(0))}

    return put


def _frozen(case: InsertSetup) -> Steps:
    """Freeze a map that holds a socket."""
    table, end = case.map(), case.connected()
    steps = {
        "insert": table.insert(end),
        "freeze": attempt(maps.freeze, table),
        "again": attempt(maps.freeze, table),
    }
    steps |= {"insert frozen": table.insert(end, 1), "replace frozen": table.insert(end)}
    return steps | {"delete": table.delete(), "lookup": table.whose(0, end), "next": following(table, None)}


def _information(case: InsertSetup) -> Steps:
    """Read back the properties of a map."""
    made = maps.create(case.type, 4, 8, 5, maps.RDONLY, name="conform")
    found = maps.info(case.fixture.keep(made))
    steps = {field: str(getattr(found, field)) for field in ("key_size", "value_size", "max_entries", "map_flags")}
    steps["type"] = {number: kind for kind, number in syscall.MAP_TYPES.items()}.get(found.type, str(found.type))
    steps |= {"name": found.name.rstrip(b"\0").decode(), "ifindex": str(found.ifindex)}
    return steps | {"id": "ok" if found.id else "none"}


def _by_id(case: InsertSetup) -> Steps:
    """Open a map by its id, for reading and writing and for reading only."""
    table, end = case.map(), case.connected()
    number = maps.info(table).id
    steps = {"insert": table.insert(end)}
    again = case.opened(maps.open_by_id(number))
    steps |= {"lookup": again.whose(0, end), "insert again": again.insert(end, 1)}
    reading = case.opened(maps.open_by_id(number, maps.RDONLY))
    steps |= {"read-only lookup": reading.whose(1, end), "read-only delete": reading.delete(1)}
    return steps | {"no such": attempt(maps.open_by_id, (1 << 31) - 1)}


def _pinned(case: InsertSetup) -> Steps:
    """Pin a map, close it, open it by its name: the socket is still in it."""
    folder = procfs.mounted("bpf") or case.fixture.enter_context(procfs.file_system("bpf"))
    path = f"{folder}/conform-{os.getpid()}"
    table, end = Map(maps.create(case.type, 4, 8, 4)), case.connected()
    steps = {"insert": table.insert(end), "pin": attempt(maps.pin, table, path)}
    if steps["pin"] == "ok":
        case.fixture.callback(os.unlink, path)
    number = maps.info(table).id
    steps["pin again"] = attempt(maps.pin, table, path)
    os.close(table)
    again = case.opened(maps.open_pinned(path))
    steps["open"] = "the same" if maps.info(again).id == number else "another"
    steps |= {"lookup": again.whose(0, end), "insert again": again.insert(end, 1)}
    reading = case.opened(maps.open_pinned(path, maps.RDONLY))
    steps |= {"read-only lookup": reading.whose(1, end), "read-only insert": reading.insert(end, 2)}
    writing = case.opened(maps.open_pinned(path, maps.WRONLY))
    steps |= {"write-only lookup": writing.whose(1, end), "write-only insert": writing.insert(end, 2)}
    return steps | {
        "no such": attempt(maps.open_pinned, f"{path}-not"),
        "no bpffs": attempt(maps.pin, again, "/proc/conform"),
    }


def _wrong_map(case: InsertSetup) -> Steps:
    """Pass a descriptor that is not a map."""
    end = case.connected()
    wrong = {"closed": closed(), "pipe": case.fixture.pipe(), "socket": end.fileno()}
    steps = {f"insert {what}": Map(descriptor).insert(end) for what, descriptor in wrong.items()}
    return steps | {f"lookup {what}": Map(descriptor).whose(0, end) for what, descriptor in wrong.items()}


WHOLE: dict[str, Callable[[InsertSetup], Steps]] = {
    "key-sizes": _create("key_size", 0, 1, 2, 3, 4, 5, 8, 16, 256, 511, 512, 513, 1 << 16),
    "value-sizes": _create("value_size", 0, 1, 2, 4, 5, 8, 12, 16, 1 << 16),
    "entries": _create("entries", 0, 1, 3, 1 << 16),
    **by_name(_creation_flags, _frozen, _by_id, _pinned, _wrong_map),
    "read-only": _limited(maps.RDONLY, freeze=maps.freeze),
    "write-only": _limited(maps.WRONLY),
    "array-of-maps": _outer(12),
    "hash-of-maps": _outer(13),
    "info": _information,
}
"""Topics of cases about the map as a whole."""
