# SPDX-License-Identifier: GPL-2.0-only
"""Fresh connected pairs of every socket kind SOCKMAP knows, over the loopback of each family.

Every pair is new; only listeners are kept, for the life of the process, because none of them is ever under test.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from socket import SOCK_DGRAM
from socket import SOCK_SEQPACKET
from socket import SOCK_STREAM
from typing import Any

_ACCEPT_SECONDS = 2.0
_VMADDR_CID_LOCAL = 1
_VMADDR_PORT_ANY = 0xFFFFFFFF

_FAMILIES: dict[str, tuple[int, Any]] = {
    "tcp4": (socket.AF_INET, ("127.0.0.1", 0)),
    "tcp6": (socket.AF_INET6, ("::1", 0)),
    "udp4": (socket.AF_INET, ("127.0.0.1", 0)),
    "udp6": (socket.AF_INET6, ("::1", 0)),
    "unix_stream": (socket.AF_UNIX, None),
    "unix_dgram": (socket.AF_UNIX, None),
    "vsock_stream": (socket.AF_VSOCK, (_VMADDR_CID_LOCAL, _VMADDR_PORT_ANY)),
    "vsock_seqpacket": (socket.AF_VSOCK, (_VMADDR_CID_LOCAL, _VMADDR_PORT_ANY)),
}
_TYPES = {
    "tcp4": SOCK_STREAM,
    "tcp6": SOCK_STREAM,
    "udp4": SOCK_DGRAM,
    "udp6": SOCK_DGRAM,
    "unix_stream": SOCK_STREAM,
    "unix_dgram": SOCK_DGRAM,
    "vsock_stream": SOCK_STREAM,
    "vsock_seqpacket": SOCK_SEQPACKET,
}
KINDS = tuple(_FAMILIES)

_listeners: dict[str, tuple[socket.socket, Any]] = {}
"""With their addresses."""


def pair(kind: str) -> tuple[socket.socket, socket.socket]:
    """Return two sockets connected to each other; OSError if this kernel cannot make them.

    They are blocking: pass MSG_DONTWAIT, which costs no system calls of its own.
    """
    family, address = _FAMILIES[kind]
    if family == socket.AF_UNIX:
        return socket.socketpair(family, _TYPES[kind])
    if _TYPES[kind] == SOCK_DGRAM:
        return _datagram_pair(family, address)
    return _accepted_pair(kind)


def fresh(kind: str) -> socket.socket:
    """Return a socket nothing was done to."""
    return socket.socket(_FAMILIES[kind][0], _TYPES[kind])


def bound(kind: str) -> socket.socket:
    """Return a socket bound to an address of the loopback that is the kernel's choice."""
    family, address = _FAMILIES[kind]
    opened = fresh(kind)
    try:
        # An empty name makes the kernel pick one: see autobind in unix(7).
        opened.bind("" if family == socket.AF_UNIX else address)
    except BaseException:
        opened.close()
        raise
    return opened


def tune(connected: socket.socket, kind: str) -> None:
    """Keep TCP from holding back what is sent."""
    if is_tcp(kind):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connects(kind: str) -> bool:
    """Whether one side listens and accepts what the other connects; else each connects to the other."""
    return _TYPES[kind] != SOCK_DGRAM


def address_of(kind: str) -> tuple[int, int, Any]:
    """Return family and type of a kind, and an address to bind to (None for UNIX)."""
    family, address = _FAMILIES[kind]
    return family, _TYPES[kind], address


def is_tcp(kind: str) -> bool:
    """Whether TCP carries it."""
    return kind in ("tcp4", "tcp6")


def is_vsock(kind: str) -> bool:
    """Whether the vsock loopback carries it."""
    return kind.startswith("vsock")


def has_end(kind: str) -> bool:
    """Whether an empty message means that the other side has shut down; on a seqpacket socket, too."""
    return _TYPES[kind] != SOCK_DGRAM


def close_listeners() -> None:
    """Forget the listeners; the next pair makes its own."""
    while _listeners:
        _listeners.popitem()[1][0].close()


def _datagram_pair(family: int, address: Any) -> tuple[socket.socket, socket.socket]:
    first = socket.socket(family, SOCK_DGRAM)
    try:
        first.bind(address)
        second = socket.socket(family, SOCK_DGRAM)
        try:
            second.connect(first.getsockname())
            first.connect(second.getsockname())
        except BaseException:
            second.close()
            raise
    except BaseException:
        first.close()
        raise
    return first, second


def _accepted_pair(kind: str) -> tuple[socket.socket, socket.socket]:
    listener, address = _listeners.get(kind) or _listen(kind)
    client = socket.socket(_FAMILIES[kind][0], _TYPES[kind])
    try:
        client.connect(address)
        server = _accept(listener, client.getsockname()[1])
    except BaseException:
        client.close()
        # What state it is in after this is anyone's guess.
        del _listeners[kind]
        listener.close()
        raise
    tune(client, kind)
    tune(server, kind)
    return client, server


def _accept(listener: socket.socket, port: int) -> socket.socket:
    # A case that was killed may have left its connection in the queue. Ports tell enough: over vsock an unbound
    # client does not know its own CID.
    while True:
        server, address = listener.accept()
        if address[1] == port:
            return server
        server.close()


def _listen(kind: str) -> tuple[socket.socket, Any]:
    family, address = _FAMILIES[kind]
    listener = socket.socket(family, _TYPES[kind])
    try:
        listener.bind(address)
        listener.listen(8)
        listener.settimeout(_ACCEPT_SECONDS)
        _listeners[kind] = (listener, listener.getsockname())
    except BaseException:
        listener.close()
        raise
    return _listeners[kind]


def let_datagrams_queue(count: int) -> None:
    """Let that many datagrams wait on a UNIX socket made from now on; ten is the default, fewer than a burst has."""
    path = "/proc/sys/net/unix/max_dgram_qlen"
    with suppress(OSError), open(path, "r+", encoding="ascii") as file:
        if int(file.read()) < count:
            file.seek(0)
            file.write(str(count))
