# SPDX-License-Identifier: GPL-2.0-only
"""What user space can do with a SOCKMAP or SOCKHASH as a whole: make it, name it, open it, freeze it, nest it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import ExitStack

from bpf.guest import maps
from bpf.guest import syscall
from conformance.groups.insert.guest.bench import Bench
from conformance.groups.insert.guest.bench import Steps
from conformance.groups.insert.guest.bench import ask
from conformance.groups.insert.guest.bench import closed
from conformance.groups.insert.guest.bench import following
from conformance.groups.insert.guest.bench import insert
from conformance.groups.insert.guest.bench import key
from conformance.groups.insert.guest.bench import mount
from conformance.groups.insert.guest.bench import remove
from conformance.groups.insert.guest.bench import whose
from conformance.guestlib.answers import name_of


def _key_sizes(bench: Bench) -> Steps:
    """Create with keys of N bytes: `N`."""
    sizes = (0, 1, 2, 3, 4, 5, 8, 16, 256, 511, 512, 513, 1 << 16)
    return {f"{size}": ask(bench.map, key_size=size) for size in sizes}


def _value_sizes(bench: Bench) -> Steps:
    """Create with values of N bytes: `N`."""
    return {f"{size}": ask(bench.map, value_size=size) for size in (0, 1, 2, 4, 5, 8, 12, 16, 1 << 16)}


def _entries(bench: Bench) -> Steps:
    """Create with room for N: `N`."""
    return {f"{entries}": ask(bench.map, entries) for entries in (0, 1, 3, 1 << 16)}


def _creation_flags(bench: Bench) -> Steps:
    """Create with one flag, `bit N`, and with read-only and write-only at once, `both`."""
    steps = {f"bit {bit}": ask(bench.map, flags=1 << bit) for bit in range(14)}
    return steps | {"both": ask(bench.map, flags=maps.RDONLY | maps.WRONLY)}


def _read_only(bench: Bench) -> Steps:
    """Ask everything of a map that user space may only read."""
    map_fd, end = bench.map(flags=maps.RDONLY), bench.connected()
    return {
        "insert": insert(map_fd, 0, end),
        "lookup": whose(map_fd, 0, end),
        "delete": remove(map_fd, 0),
        "next": following(map_fd, None),
        "freeze": ask(maps.freeze, map_fd),
    }


def _write_only(bench: Bench) -> Steps:
    """Ask everything of a map that user space may only write."""
    map_fd, end = bench.map(flags=maps.WRONLY), bench.connected()
    return {
        "insert": insert(map_fd, 0, end),
        "lookup": whose(map_fd, 0, end),
        "next": following(map_fd, None),
        "delete": remove(map_fd, 0),
    }


def _outer(kind: int) -> Callable[[Bench], Steps]:
    """Put maps of sockets into an array or a hash of maps."""

    def put(bench: Bench) -> Steps:
        inner, end = bench.map(4), bench.connected()
        try:
            outer = bench.owned(maps.create(kind, 4, 4, 2, inner=inner))
        except OSError as error:
            return {"create": name_of(error)}
        steps = {"create": "ok", "put": ask(maps.update, outer, key(0), struct.pack("=I", inner))}
        others = {
            "put larger": bench.map(8),
            "put small values": bench.map(value_size=4),
            "put other type": bench.other_map(),
        }
        steps |= {label: ask(maps.update, outer, key(1), struct.pack("=I", other)) for label, other in others.items()}
        steps["put socket"] = ask(maps.update, outer, key(1), struct.pack("=I", end.fileno()))
        steps["insert"] = insert(inner, 0, end)
        number = int.from_bytes(maps.lookup(outer, key(0), 4), "little")
        same = bench.owned(maps.open_by_id(number))
        return steps | {"lookup": whose(same, 0, end), "take out": ask(maps.delete, outer, key(0))}

    return put


def _frozen(bench: Bench) -> Steps:
    """Freeze a map that holds a socket."""
    map_fd, end = bench.map(), bench.connected()
    steps = {"insert": insert(map_fd, 0, end), "freeze": ask(maps.freeze, map_fd), "again": ask(maps.freeze, map_fd)}
    steps |= {"insert frozen": insert(map_fd, 1, end), "replace frozen": insert(map_fd, 0, end)}
    return steps | {"delete": remove(map_fd, 0), "lookup": whose(map_fd, 0, end), "next": following(map_fd, None)}


def _information(bench: Bench) -> Steps:
    """Read back how a map was made."""
    made = maps.create(bench.type, 4, 8, 5, maps.RDONLY, name="conform")
    found = maps.info(bench.owned(made))
    steps = {field: str(getattr(found, field)) for field in ("key_size", "value_size", "max_entries", "map_flags")}
    steps["type"] = {number: kind for kind, number in syscall.MAP_TYPES.items()}.get(found.type, str(found.type))
    steps |= {"name": found.name.rstrip(b"\0").decode(), "ifindex": str(found.ifindex)}
    return steps | {"id": "ok" if found.id else "none"}


def _by_id(bench: Bench) -> Steps:
    """Open a map by its number, for everything and for reading only."""
    map_fd, end = bench.map(), bench.connected()
    number = maps.info(map_fd).id
    steps = {"insert": insert(map_fd, 0, end)}
    again = bench.owned(maps.open_by_id(number))
    steps |= {"lookup": whose(again, 0, end), "insert again": insert(again, 1, end)}
    reading = bench.owned(maps.open_by_id(number, maps.RDONLY))
    steps |= {"read-only lookup": whose(reading, 1, end), "read-only delete": remove(reading, 1)}
    return steps | {"no such": ask(maps.open_by_id, (1 << 31) - 1)}


def _pinned(bench: Bench) -> Steps:
    """Pin a map, close it, open it by its name: the socket is still in it."""
    folder = _bpf_file_system(bench.keep)
    path = f"{folder}/conform-{os.getpid()}"
    map_fd, end = maps.create(bench.type, 4, 8, 4), bench.connected()
    steps = {"insert": insert(map_fd, 0, end), "pin": ask(maps.pin, map_fd, path)}
    if steps["pin"] == "ok":
        bench.keep.callback(os.unlink, path)
    number = maps.info(map_fd).id
    steps["pin again"] = ask(maps.pin, map_fd, path)
    os.close(map_fd)
    again = bench.owned(maps.open_pinned(path))
    steps["open"] = "the same" if maps.info(again).id == number else "another"
    steps |= {"lookup": whose(again, 0, end), "insert again": insert(again, 1, end)}
    reading = bench.owned(maps.open_pinned(path, maps.RDONLY))
    steps |= {"read-only lookup": whose(reading, 1, end), "read-only insert": insert(reading, 2, end)}
    writing = bench.owned(maps.open_pinned(path, maps.WRONLY))
    steps |= {"write-only lookup": whose(writing, 1, end), "write-only insert": insert(writing, 2, end)}
    return steps | {"no such": ask(maps.open_pinned, f"{path}-not"), "no bpffs": ask(maps.pin, again, "/proc/conform")}


def _bpf_file_system(keep: ExitStack) -> str:
    """Return where a BPF file system is mounted; mount one where there is none."""
    usual = "/sys/fs/bpf"
    with open("/proc/mounts", encoding="ascii") as file:
        if any(line.split()[1:3] == [usual, "bpf"] for line in file):
            return usual
    return mount("bpf", keep)


def _wrong_map(bench: Bench) -> Steps:
    """Name as map what is none."""
    end = bench.connected()
    wrong = {"closed": closed(), "pipe": bench.pipe(), "socket": end.fileno()}
    steps = {f"insert {what}": insert(descriptor, 0, end) for what, descriptor in wrong.items()}
    return steps | {f"lookup {what}": whose(descriptor, 0, end) for what, descriptor in wrong.items()}


WHOLE: dict[str, Callable[[Bench], Steps]] = {
    "key-sizes": _key_sizes,
    "value-sizes": _value_sizes,
    "entries": _entries,
    "creation-flags": _creation_flags,
    "read-only": _read_only,
    "write-only": _write_only,
    "array-of-maps": _outer(12),
    "hash-of-maps": _outer(13),
    "frozen": _frozen,
    "info": _information,
    "by-id": _by_id,
    "pinned": _pinned,
    "wrong-map": _wrong_map,
}
"""What a case can be about that concerns the map as a whole."""
