# SPDX-License-Identifier: GPL-2.0-only
"""List every socket of this network namespace by sock_diag(7), raw netlink.

pyroute2 does this too, by 163 modules (5 MB) over asyncio, which a guest does not have; on a host the two are compared.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

from conformance.guestlib.states import TCP_STATES

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_ALL_STATES = 0xFFFFFFFF
_ROOM = 1 << 16

_HEADER = struct.Struct("=IHHII")
_INET = struct.Struct("=BBBxI48x")
_UNIX = struct.Struct("=BBHIII8x")
_VSOCK = struct.Struct("=BBHIII8x")

# Of each kind: the request, and where in an answer are its state and its cookie.
_KINDS: Final = {
    "tcp4": (_INET.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ALL_STATES), 1, 44),
    "tcp6": (_INET.pack(socket.AF_INET6, socket.IPPROTO_TCP, 0, _ALL_STATES), 1, 44),
    "udp4": (_INET.pack(socket.AF_INET, socket.IPPROTO_UDP, 0, _ALL_STATES), 1, 44),
    "udp6": (_INET.pack(socket.AF_INET6, socket.IPPROTO_UDP, 0, _ALL_STATES), 1, 44),
    "unix": (_UNIX.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, 0), 2, 8),
    "vsock": (_VSOCK.pack(socket.AF_VSOCK, 0, 0, _ALL_STATES, 0, 0), 2, 24),
}


class Lister:
    """A netlink socket to list sockets by; close it when done."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def sockets(self) -> dict[bytes, str]:
        """Return cookie to `"KIND STATE"` of every socket; a kind whose module is not there has none."""
        return {cookie: name for kind in _KINDS for cookie, name in self._dump(kind)}

    def _dump(self, kind: str) -> Iterator[tuple[bytes, str]]:
        request, state, cookie = _KINDS[kind]
        self._socket.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + request)
        while True:
            data = self._socket.recv(_ROOM)
            while data:
                length, what, _, _, _ = _HEADER.unpack_from(data)
                if what in (_ERROR, _DONE):
                    return
                answer = data[_HEADER.size : length]
                yield answer[cookie : cookie + 8], f"{kind} {TCP_STATES[answer[state] % len(TCP_STATES)]}"
                data = data[(length + 3) & ~3 :]
