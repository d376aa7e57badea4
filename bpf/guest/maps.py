# SPDX-License-Identifier: GPL-2.0-only
"""Maps of any shape, and every command of bpf(2) about them; `syscall` has the few that must be quick.

Keys and values are bytes, as long as the map has them. All raise OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

from bpf.guest import syscall

ANY, NOEXIST, EXIST, LOCK, CPU = 0, 1, 2, 4, 8
"""Flags of an update."""
RDONLY, WRONLY = 1 << 3, 1 << 4
"""Flags of a map, and of opening one, for user space."""
BATCHES = {"lookup": 24, "lookup_and_delete": 25, "update": 26, "delete": 27}

_CREATE, _LOOKUP, _UPDATE, _DELETE, _NEXT_KEY, _PIN, _GET = 0, 1, 2, 3, 4, 6, 7
_FD_BY_ID, _INFO, _TAKE, _FREEZE = 14, 15, 21, 22

_SHAPE = struct.Struct("=7I16s")
_ELEMENT = struct.Struct("=I4xQQQ")
_BATCH = struct.Struct("=4QIIQQ")
_PATH = struct.Struct("=QII")
_INFO_FIELDS = struct.Struct("=6I16sI")
_INFO_SIZE = 256


class Info(NamedTuple):
    """The beginning of `struct bpf_map_info`."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    name: bytes
    ifindex: int


def create(
    kind: int, key_size: int, value_size: int, max_entries: int, flags: int = 0, *, inner: int = 0, name: str = ""
) -> int:
    """Create a map and return its descriptor; `inner` is the descriptor of the map that its values are like."""
    return syscall.call(
        _CREATE, bytearray(_SHAPE.pack(kind, key_size, value_size, max_entries, flags, inner, 0, name.encode()))
    )


def update(map_fd: int, key: bytes | None, value: bytes | None, flags: int = 0) -> None:
    """Set a value; None passes an invalid pointer."""
    _element(_UPDATE, map_fd, key, value, flags)


def lookup(map_fd: int, key: bytes | None, value_size: int, flags: int = 0) -> bytes:
    """Return the value at a key."""
    return _element(_LOOKUP, map_fd, key, bytes(value_size), flags)


def take(map_fd: int, key: bytes, value_size: int) -> bytes:
    """Return the value at a key and remove the entry."""
    return _element(_TAKE, map_fd, key, bytes(value_size), 0)


def delete(map_fd: int, key: bytes | None) -> None:
    """Remove an entry."""
    _element(_DELETE, map_fd, key, None, 0)


def next_key(map_fd: int, key: bytes | None, key_size: int) -> bytes:
    """Return the key after a key, or the first."""
    return _element(_NEXT_KEY, map_fd, key, bytes(key_size), 0)


def batch(command: str, map_fd: int, keys: bytes, values: bytes, count: int) -> int:
    """Run one of the commands in `BATCHES`; return the number of entries done."""
    buffers = [ctypes.create_string_buffer(data, len(data)) for data in (keys, values, bytes(len(keys)))]
    places = [ctypes.addressof(buffer) for buffer in buffers]
    attributes = bytearray(_BATCH.pack(0, places[2], places[0], places[1], count, map_fd, 0, 0))
    syscall.call(BATCHES[command], attributes)
    return int(_BATCH.unpack(attributes)[4])


def freeze(map_fd: int) -> None:
    """Freeze a map: user space may not change it any more."""
    syscall.call(_FREEZE, bytearray(struct.pack("=I", map_fd)))


def pin(descriptor: int, path: str) -> None:
    """Pin a map, a program or a link in a BPF file system."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    syscall.call(_PIN, bytearray(_PATH.pack(ctypes.addressof(name), descriptor, 0)))


def open_pinned(path: str, flags: int = 0) -> int:
    """Open what was pinned by its name and return its descriptor."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return syscall.call(_GET, bytearray(_PATH.pack(ctypes.addressof(name), 0, flags)))


def open_by_id(number: int, flags: int = 0) -> int:
    """Open a map by its id and return its descriptor."""
    return syscall.call(_FD_BY_ID, bytearray(struct.pack("=III", number, 0, flags)))


def info(map_fd: int) -> Info:
    """Return the kernel's information about a map."""
    return Info(*_INFO_FIELDS.unpack_from(raw_info(map_fd)))


def raw_info(descriptor: int) -> bytes:
    """Return the beginning of `struct bpf_prog_info`, `bpf_map_info` or `bpf_link_info`."""
    buffer = ctypes.create_string_buffer(_INFO_SIZE)
    syscall.call(_INFO, bytearray(struct.pack("=IIQ", descriptor, _INFO_SIZE, ctypes.addressof(buffer))))
    return buffer.raw


def _element(command: int, map_fd: int, key: bytes | None, value: bytes | None, flags: int) -> bytes:
    buffers = [None if data is None else ctypes.create_string_buffer(data, len(data)) for data in (key, value)]
    places = [0 if buffer is None else ctypes.addressof(buffer) for buffer in buffers]
    syscall.call(command, bytearray(_ELEMENT.pack(map_fd, *places, flags)))
    return b"" if buffers[1] is None else buffers[1].raw
