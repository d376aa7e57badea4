# SPDX-License-Identifier: GPL-2.0-only
"""A network namespace with sockets in it, kept by one thread; see network_namespaces(7)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

from conformance.guestlib import sockets

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A namespace that lives as long as its one thread, and the sockets in it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        try:
            self._thread.submit(_enter).result()
        except BaseException:
            self.leave()
            raise

    def pair(self, kind: str) -> tuple[socket.socket, socket.socket]:
        """Return two sockets of the namespace, connected to each other."""
        return self._thread.submit(_pair, kind).result()

    def leave(self) -> None:
        """End the thread; only sockets keep the namespace now."""
        self._thread.shutdown()


def _enter() -> None:
    if _LIBC.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("=16sh22x", b"lo", _IFF_UP))


def _pair(kind: str) -> tuple[socket.socket, socket.socket]:
    # Listeners are kept from case to case, and those are of another namespace.
    sockets.close_listeners()
    try:
        return sockets.pair(kind)
    finally:
        sockets.close_listeners()
