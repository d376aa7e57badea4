# SPDX-License-Identifier: GPL-2.0-only
"""Network namespaces: one of our own to count in, since nobody else's sockets are in it, and others to destroy."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from functools import cache

from conformance.guestlib import sockets

_HERE = "/proc/thread-self/ns/net"
_NEW = 0x40000000
"""CLONE_NEWNET."""
_SET_FLAGS = 0x8914
"""SIOCSIFFLAGS."""
_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Have this thread make its sockets in a namespace; listeners that are kept do not move along."""
    sockets.close_listeners()
    home = os.open(_HERE, os.O_RDONLY)
    try:
        _check(_libc.setns(namespace, _NEW))
        try:
            yield
        finally:
            sockets.close_listeners()
            _check(_libc.setns(home, _NEW))
    finally:
        os.close(home)


def fresh() -> int:
    """Make a network namespace with a loopback and return its descriptor; TCP leaves nothing behind in it."""
    home = os.open(_HERE, os.O_RDONLY)
    try:
        _check(_libc.unshare(_NEW))
        try:
            _raise_loopback()
            # No socket in TIME_WAIT: it would be there for a minute, and be counted.
            with suppress(OSError), open("/proc/sys/net/ipv4/tcp_max_tw_buckets", "w", encoding="ascii") as file:
                file.write("0")
            return os.open(_HERE, os.O_RDONLY)
        finally:
            _check(_libc.setns(home, _NEW))
    finally:
        os.close(home)


@contextmanager
def passing() -> Iterator[None]:
    """Have this thread make its sockets in a namespace that ends with them."""
    namespace = fresh()
    try:
        with inside(namespace):
            yield
    finally:
        os.close(namespace)


@cache
def ours() -> int:
    """Return the descriptor of the one namespace that this process keeps."""
    return fresh()


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH22x", b"lo", _UP))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
