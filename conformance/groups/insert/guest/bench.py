# SPDX-License-Identifier: GPL-2.0-only
"""Maps and sockets for the cases about maps, and short answers to what is asked of them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import tempfile
from collections.abc import Callable
from contextlib import ExitStack

from bpf.guest import maps
from bpf.guest import syscall
from conformance.guestlib import sockets
from conformance.guestlib import states
from conformance.guestlib.answers import name_of

_SO_COOKIE = 57
_FREE = 900
"""Descriptors from here on are not in use."""

_LIBC = ctypes.CDLL(None, use_errno=True)

Steps = dict[str, str]


class Bench:
    """Maps and sockets as a case needs them, all closed at its end."""

    def __init__(self, kind: str, keep: ExitStack) -> None:
        self.type = syscall.MAP_TYPES[kind]
        self.hashed = kind == "sockhash"
        self.keep = keep

    def map(self, entries: int = 4, *, key_size: int = 4, value_size: int = 8, flags: int = 0) -> int:
        """Create a map."""
        return self.owned(maps.create(self.type, key_size, value_size, entries, flags))

    def other_map(self) -> int:
        """Create a map of the other type."""
        other = syscall.MAP_TYPES["sockmap" if self.hashed else "sockhash"]
        return self.owned(maps.create(other, 4, 8, 4))

    def owned(self, descriptor: int) -> int:
        """Close a descriptor in the end."""
        self.keep.callback(os.close, descriptor)
        return descriptor

    def connected(self) -> socket.socket:
        """Make a connected TCP socket."""
        ends = sockets.pair("tcp4")
        for end in ends:
            self.keep.enter_context(end)
        return ends[0]

    def unfit(self) -> socket.socket:
        """Make a socket that no map takes."""
        return states.make("tcp4", "fresh", self.keep)

    def pipe(self) -> int:
        """Make a descriptor that is neither map nor socket."""
        reader, writer = os.pipe()
        self.owned(writer)
        return self.owned(reader)

    def closed(self) -> int:
        """Return a number that is no descriptor."""
        return closed()


def mount(kind: str, keep: ExitStack) -> str:
    """Mount a file system for as long as the case lasts, and return where."""
    folder = keep.enter_context(tempfile.TemporaryDirectory())
    if _LIBC.mount(kind.encode(), folder.encode(), kind.encode(), 0, None):
        raise OSError(ctypes.get_errno(), f"cannot mount {kind}")
    keep.callback(_LIBC.umount2, folder.encode(), 2)
    return folder


def closed() -> int:
    """Return a number that is no descriptor, nor soon will be."""
    descriptor: int = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _FREE)
    os.close(descriptor)
    return descriptor


def key(number: int, size: int = 4) -> bytes:
    """Return a number as a key."""
    return number.to_bytes(size, "little")


def value(descriptor: int | socket.socket) -> bytes:
    """Return a descriptor as the value of a map with 8-byte values."""
    return struct.pack("=Q", descriptor if isinstance(descriptor, int) else descriptor.fileno())


def ask(function: Callable[..., object], *arguments: object, **options: object) -> str:
    """Call a function; `ok`, or the name of the errno it raised."""
    try:
        function(*arguments, **options)
    except OSError as error:
        return name_of(error)
    return "ok"


def insert(map_fd: int, number: int, end: int | socket.socket, flags: int = 0) -> str:
    """Insert a socket at a u32 key."""
    return ask(maps.update, map_fd, key(number), value(end), flags)


def whose(map_fd: int, number: int, *ends: socket.socket) -> str:
    """Tell whose cookie is at a u32 key: `cookie`, of the only socket asked about, `cookie N`, or an errno."""
    return whose_at(map_fd, key(number), *ends)


def whose_at(map_fd: int, at: bytes, *ends: socket.socket) -> str:
    """Do the same for any key."""
    try:
        found = maps.lookup(map_fd, at, 8)
    except OSError as error:
        return name_of(error)
    cookies = [_cookie_of(end) for end in ends]
    if found not in cookies:
        return "another cookie"
    return f"cookie {cookies.index(found) + 1}" if len(ends) > 1 else "cookie"


def _cookie_of(end: socket.socket) -> bytes:
    # Not by Python, which refuses to get anything but numbers of VSOCK sockets.
    found, size = ctypes.create_string_buffer(8), ctypes.c_uint(8)
    if _LIBC.getsockopt(end.fileno(), socket.SOL_SOCKET, _SO_COOKIE, found, ctypes.byref(size)):
        raise OSError(ctypes.get_errno(), "SO_COOKIE")
    return found.raw


def remove(map_fd: int, number: int) -> str:
    """Delete at a u32 key."""
    return ask(maps.delete, map_fd, key(number))


def following(map_fd: int, number: int | None) -> str:
    """Tell the u32 key after one."""
    try:
        found = maps.next_key(map_fd, None if number is None else key(number), 4)
    except OSError as error:
        return name_of(error)
    return str(int.from_bytes(found, "little"))
