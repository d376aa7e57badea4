# SPDX-License-Identifier: GPL-2.0-only
"""Network namespaces: one of our own to count in, since nobody else's sockets are in it, and others to destroy."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from conformance.guestlib import procfs, sockets

_HERE = "/proc/thread-self/ns/net"
_NEW = 0x40000000
"""CLONE_NEWNET."""
_SET_FLAGS = 0x8914
"""SIOCSIFFLAGS."""
_UP = 1


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Have this thread make its sockets in a namespace; listeners that are kept do not move along."""
    sockets.close_listeners()
    with _and_back():
        procfs.check(procfs.LIBC.setns(namespace, _NEW))
        try:
            yield
        finally:
            sockets.close_listeners()


def fresh() -> int:
    """Make a network namespace with a loopback and return its descriptor; TCP leaves nothing behind in it."""
    with _and_back():
        procfs.check(procfs.LIBC.unshare(_NEW))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH22x", b"lo", _UP))
        # No socket in TIME_WAIT: it would be there for a minute, and be counted.
        with suppress(OSError):
            procfs.write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0")
        return os.open(_HERE, os.O_RDONLY)


@contextmanager
def passing() -> Iterator[None]:
    """Have this thread make its sockets in a namespace that ends with them."""
    namespace = fresh()
    try:
        with inside(namespace):
            yield
    finally:
        os.close(namespace)


ours = cache(fresh)
"""Return the descriptor of the one namespace that this process keeps."""


@contextmanager
def _and_back() -> Iterator[None]:
    home = os.open(_HERE, os.O_RDONLY)
    try:
        yield
    finally:
        try:
            procfs.check(procfs.LIBC.setns(home, _NEW))
        finally:
            os.close(home)
