# SPDX-License-Identifier: GPL-2.0-only
"""Fresh connected pairs of every socket kind SOCKMAP knows, over the loopback of each family.

Every pair is new; only listeners are kept, for the life of the process, because none of them is ever under test.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from functools import cache
from typing import Any

from conformance.guestlib import procfs

_ACCEPT_SECONDS = 2.0
_VSOCK_ADDRESS = (1, 0xFFFFFFFF)
"""VMADDR_CID_LOCAL, VMADDR_PORT_ANY."""
_SO_MEMINFO, _SO_COOKIE = 55, 57
_AT_ONCE = struct.pack("=ii", 1, 0)
"""struct linger: a close that resets."""

SORTS: dict[str, tuple[int, int, Any]] = {
    "tcp4": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
    "tcp6": (socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
    "udp4": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
    "udp6": (socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0)),
    # An empty name makes the kernel pick one: see autobind in unix(7).
    "unix_stream": (socket.AF_UNIX, socket.SOCK_STREAM, ""),
    "unix_dgram": (socket.AF_UNIX, socket.SOCK_DGRAM, ""),
    "vsock_stream": (socket.AF_VSOCK, socket.SOCK_STREAM, _VSOCK_ADDRESS),
    "vsock_seqpacket": (socket.AF_VSOCK, socket.SOCK_SEQPACKET, _VSOCK_ADDRESS),
}
"""Family, type, and an address to bind to that leaves the rest to the kernel."""
KINDS = tuple(SORTS)

_listeners: dict[str, tuple[socket.socket, Any]] = {}
"""With their addresses."""


def pair(kind: str) -> tuple[socket.socket, socket.socket]:
    """Return two sockets connected to each other; OSError if this kernel cannot make them.

    They are blocking: pass MSG_DONTWAIT, which costs no system calls of its own.
    """
    family, type_, _ = SORTS[kind]
    if family == socket.AF_UNIX:
        return socket.socketpair(family, type_)
    return _accepted_pair(kind) if connects(kind) else _datagram_pair(kind)


def fresh(kind: str) -> socket.socket:
    """Return a socket nothing was done to."""
    return socket.socket(*SORTS[kind][:2])


def bound(kind: str) -> socket.socket:
    """Return a socket bound to an address of the loopback that is the kernel's choice."""
    opened = fresh(kind)
    try:
        opened.bind(SORTS[kind][2])
    except BaseException:
        opened.close()
        raise
    return opened


def tune(connected: socket.socket, kind: str) -> socket.socket:
    """Keep TCP from holding back what is sent; return the socket."""
    if is_tcp(kind):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def connects(kind: str) -> bool:
    """Whether one side listens and accepts what the other connects; else each connects to the other.

    On such sockets an empty message means that the other side has shut down, also on those of type seqpacket.
    """
    return SORTS[kind][1] != socket.SOCK_DGRAM


def is_tcp(kind: str) -> bool:
    """Whether TCP carries it."""
    return kind in ("tcp4", "tcp6")


def is_vsock(kind: str) -> bool:
    """Whether the vsock loopback carries it."""
    return kind.startswith("vsock")


def cookie_of(one: socket.socket) -> bytes:
    """Return a socket's identity, the same for every duplicate."""
    # Not by Python, which gets nothing but numbers from VSOCK sockets.
    return _option(one, _SO_COOKIE, 8)


def memory_of(one: socket.socket) -> tuple[int, ...]:
    """Return the SK_MEMINFO_* of a socket: bytes that its receive buffers take first, packets dropped last."""
    return struct.unpack("=9I", _option(one, _SO_MEMINFO, 36))


def _option(one: socket.socket, name: int, size: int) -> bytes:
    found, length = ctypes.create_string_buffer(size), ctypes.c_uint(size)
    procfs.check(procfs.LIBC.getsockopt(one.fileno(), socket.SOL_SOCKET, name, found, ctypes.byref(length)))
    return found.raw


def disconnect(one: socket.socket) -> None:
    """Dissolve the association: connect() to AF_UNSPEC, which Python has no address for."""
    procfs.check(procfs.LIBC.connect(one.fileno(), bytes(16), 16))


def abort(one: socket.socket) -> None:
    """Close, and if that can be reset the connection instead of closing it in order."""
    if one.family in (socket.AF_INET, socket.AF_INET6):
        # Not by Python, which keeps other threads from running: one of them may hold the socket.
        procfs.check(procfs.LIBC.setsockopt(one.fileno(), socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE, len(_AT_ONCE)))
    one.close()


def close_listeners() -> None:
    """Forget the listeners; the next pair makes its own."""
    while _listeners:
        _listeners.popitem()[1][0].close()


def _datagram_pair(kind: str) -> tuple[socket.socket, socket.socket]:
    first, second = bound(kind), fresh(kind)
    try:
        second.connect(first.getsockname())
        first.connect(second.getsockname())
    except BaseException:
        first.close()
        second.close()
        raise
    return first, second


def _accepted_pair(kind: str) -> tuple[socket.socket, socket.socket]:
    listener, address = _listeners.get(kind) or _listen(kind)
    client = fresh(kind)
    try:
        client.connect(address)
        server = _accept(listener, client.getsockname()[1])
    except BaseException:
        client.close()
        # What state it is in after this is anyone's guess.
        del _listeners[kind]
        listener.close()
        raise
    return tune(client, kind), tune(server, kind)


def _accept(listener: socket.socket, port: int) -> socket.socket:
    # A case that was killed may have left its connection in the queue. Ports tell enough: over vsock an unbound
    # client does not know its own CID.
    while True:
        server, address = listener.accept()
        if address[1] == port:
            return server
        server.close()


def _listen(kind: str) -> tuple[socket.socket, Any]:
    listener = bound(kind)
    listener.listen(8)
    listener.settimeout(_ACCEPT_SECONDS)
    _listeners[kind] = (listener, listener.getsockname())
    return _listeners[kind]


@cache
def let_datagrams_queue(count: int) -> None:
    """Let that many datagrams wait on a UNIX socket made from now on; ten is the default, fewer than a burst has."""
    path = "/proc/sys/net/unix/max_dgram_qlen"
    with suppress(OSError, ValueError):
        if int(procfs.read(path)) < count:
            procfs.write(path, str(count))
