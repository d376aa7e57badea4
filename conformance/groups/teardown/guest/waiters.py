# SPDX-License-Identifier: GPL-2.0-only
"""Threads that are blocked in recv(2), send(2), poll(2), select(2) or epoll_wait(2)."""

from __future__ import annotations

import ctypes
import select
import socket

from conformance.guestlib.traffic import Messages
from conformance.guestlib.waiters import Waiter, event_names

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.recv.argtypes = _LIBC.send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_LIBC.poll.argtypes = (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int)
_LIBC.select.argtypes = (ctypes.c_int, *[ctypes.c_void_p] * 4)
_LIBC.epoll_wait.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
_ROOM = 1 << 14
_WORD = 64
"""Descriptors per word of a select(2) set."""


class PollDescriptor(ctypes.Structure):
    """The argument of poll(2)."""

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class Reader(Waiter):
    """A thread in recv(2)."""

    def __init__(self, end: socket.socket) -> None:
        self._data: Messages = []
        self._buffer = ctypes.create_string_buffer(_ROOM)
        descriptor = end.fileno()
        super().__init__(lambda: int(_LIBC.recv(descriptor, self._buffer, _ROOM, 0)), descriptor, self._result)

    def take(self) -> Messages:
        """Return what it received, once."""
        taken, self._data = self._data, []
        return taken

    def _result(self, size: int) -> str:
        self._data = [self._buffer.raw[:size]] if size else []
        return "data" if size else "eof"


class Sender(Waiter):
    """A thread in send(2)."""

    def __init__(self, end: socket.socket, data: bytes) -> None:
        descriptor = end.fileno()
        super().__init__(
            lambda: int(_LIBC.send(descriptor, data, len(data), socket.MSG_NOSIGNAL)),
            descriptor,
            lambda size: "sent" if size == len(data) else f"{size} of {len(data)}",
        )


def pollers(end: socket.socket) -> dict[str, Waiter]:
    """Return threads that wait for the socket to be readable: in poll, in select, in epoll by level and by edge."""
    descriptor = end.fileno()
    chosen = (ctypes.c_uint64 * (descriptor // _WORD + 1))()
    chosen[descriptor // _WORD] = 1 << descriptor % _WORD
    return {
        "poll": look(descriptor, -1),
        "select": Waiter(
            lambda: int(_LIBC.select(descriptor + 1, chosen, None, None, None)), descriptor + 1, lambda _: "in"
        ),
        "epoll": _epoll(descriptor, select.EPOLLIN),
        "edge": _epoll(descriptor, select.EPOLLIN | select.EPOLLET),
    }


def look(descriptor: int, milliseconds: int = 0) -> Waiter:
    """Return a thread that polls a socket, without limit if that is -1; it waits, too, where the socket is locked."""
    polled = PollDescriptor(descriptor, select.POLLIN, 0)
    address = ctypes.addressof(polled)
    return Waiter(lambda: int(_LIBC.poll(address, 1, milliseconds)), address, lambda _: event_names(polled.revents))


def _epoll(descriptor: int, mask: int) -> Waiter:
    epoll = select.epoll()
    epoll.register(descriptor, mask)
    found = ctypes.create_string_buffer(16)

    def wait() -> int:
        with epoll:
            return int(_LIBC.epoll_wait(epoll.fileno(), found, 1, -1))

    return Waiter(wait, epoll.fileno(), lambda _: event_names(int.from_bytes(found.raw[:4], "little")))
