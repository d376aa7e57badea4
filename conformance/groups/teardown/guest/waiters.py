# SPDX-License-Identifier: GPL-2.0-only
"""Threads that wait in one system call, and their results.

Whether one waits is observed, not guessed: it waits when the kernel says that the thread sleeps in a system call with
the first argument that it was given. So "sleeps" needs no deadline, and a slow thread is not taken for a sleeping one.
"""

from __future__ import annotations

import ctypes
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from conformance.guestlib import procfs
from conformance.guestlib.answers import comes_true, error_name
from conformance.guestlib.traffic import Messages

WAITS: Final = "waits"
"""The answer of a thread that still waits."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.recv.argtypes = _LIBC.send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_LIBC.poll.argtypes = (ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int)
_LIBC.select.argtypes = (ctypes.c_int, *[ctypes.c_void_p] * 4)
_LIBC.epoll_wait.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
_ROOM = 1 << 14
_EVENTS = {
    select.POLLIN: "in",
    select.POLLOUT: "out",
    select.POLLERR: "err",
    select.POLLHUP: "hup",
    select.POLLRDHUP: "rdhup",
}
_PATIENCE = 2.0
"""Seconds within which a thread enters its system call, or returns from it."""
_WORD = 64
"""Descriptors per word of a select(2) set."""


class PollDescriptor(ctypes.Structure):
    """The argument of poll(2)."""

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class Waiter:
    """A thread in one system call."""

    def __init__(self, call: Callable[[], int], first: int, tell: Callable[[int], str]) -> None:
        """Start a thread for `call`, whose system call has `first` as first argument; `tell` describes its result."""
        self._call, self._first, self._tell = call, first, tell
        self._answer = ""
        self._id = 0
        # A signal that interrupts the call and is then ignored.
        signal.signal(signal.SIGUSR2, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR2, True)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.rest()

    def answer(self) -> str:
        """Return the result, or `WAITS`."""
        self.rest()
        return self._answer or WAITS

    def rest(self) -> None:
        """Wait until the thread has its answer, or sleeps."""
        if not comes_true(lambda: self._answer or self._asleep(), _PATIENCE, partial(time.sleep, 0.0002)):
            raise TimeoutError("a thread neither waits nor comes back")

    def end(self) -> None:
        """Interrupt the thread; TimeoutError if it does not end."""
        if not comes_true(lambda: not self._thread.is_alive(), _PATIENCE, self._interrupt):
            raise TimeoutError("a thread cannot be interrupted")

    def _interrupt(self) -> None:
        signal.pthread_kill(self._thread.ident or 0, signal.SIGUSR2)
        self._thread.join(0.002)

    def _run(self) -> None:
        self._id = threading.get_native_id()
        result = self._call()
        self._answer = self._tell(result) if result >= 0 else error_name(ctypes.get_errno())

    def _asleep(self) -> bool:
        words = procfs.read(f"/proc/self/task/{self._id}/syscall").split() if self._id else []
        return len(words) > 1 and words[0] != "-1" and int(words[1], 16) == self._first


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
    return Waiter(lambda: int(_LIBC.poll(address, 1, milliseconds)), address, lambda _: events(polled.revents))


def events(mask: int) -> str:
    """Name events of poll(2)."""
    return " ".join(name for bit, name in _EVENTS.items() if mask & bit) or "nothing"


def _epoll(descriptor: int, mask: int) -> Waiter:
    epoll = select.epoll()
    epoll.register(descriptor, mask)
    found = ctypes.create_string_buffer(16)

    def wait() -> int:
        with epoll:
            return int(_LIBC.epoll_wait(epoll.fileno(), found, 1, -1))

    return Waiter(wait, epoll.fileno(), lambda _: events(int.from_bytes(found.raw[:4], "little")))
