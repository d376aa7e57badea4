# SPDX-License-Identifier: GPL-2.0-only
"""The questions: what FIONREAD counts, when poll(2) reports the socket, and whether a blocked recv(2) returns."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.readiness.guest.setup import NOTHING, ROOM, Setup, ranges
from conformance.guestlib import sockets, traffic
from conformance.guestlib.answers import attempt, name_of, wait_until
from conformance.guestlib.waiters import WAITS, Waiter, event_names

Question = Callable[[Setup], object]

FIRST, SECOND, PART = 100, 60, 40
"""Bytes of the two messages, and of a partial read."""
_NARROW: Final = 1 << 14
"""Bytes of a small send buffer."""
_MOST: Final = 1 << 21
"""Bytes after which a socket counts as never full."""
_TIMES: Final = 3
_MOMENT: Final = 0.1
"""Seconds in which a blocked recv(2) must return data that has arrived."""
_FILLING: Final = 8.0
"""Seconds in which TCP must have filled the receive buffer of the peer."""
_BACKOFF: Final = 4
"""Offset of tcpi_backoff in `struct tcp_info`, the number of unanswered window probes."""
_PAUSE: Final = 0.005
"""Seconds between two attempts to send to a full socket."""

_recv = ctypes.CDLL(None, use_errno=True).recv
_recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Watch:
    """poll(2), select(2), level-triggered and edge-triggered epoll of one socket."""

    def __init__(self, case: Setup, *, writing: bool = False) -> None:
        self._end, self._writing = case.end, writing
        self._poll = select.poll()
        self._poll.register(self._end, select.POLLOUT if writing else select.POLLIN)
        self._epolls = {}
        for name, flag in (("level", 0), ("edge", select.EPOLLET)):
            self._epolls[name] = case.fixture.enter_context(select.epoll())
            self._epolls[name].register(self._end, flag | (select.EPOLLOUT if writing else select.EPOLLIN))

    def look(self) -> str:
        """Return the reports of all four: one answer if they agree, else each report with the name of its call."""
        found = {"poll": self._polled(), "select": self._selected()}
        for name, epoll in self._epolls.items():
            found[name] = next((event_names(mask) for _, mask in epoll.poll(0)), NOTHING)
        if len(set(found.values())) == 1:
            return found["poll"]
        return " ".join(f"{name}:{answer}" for name, answer in found.items() if answer != NOTHING)

    def edge(self) -> str:
        """Return the report of edge-triggered epoll."""
        return next((event_names(mask) for _, mask in self._epolls["edge"].poll(0)), NOTHING)

    def _polled(self) -> str:
        return next((event_names(mask) for _, mask in self._poll.poll(0)), NOTHING)

    def _selected(self) -> str:
        ends = [self._end]
        readable, writable, _ = select.select([] if self._writing else ends, ends if self._writing else [], [], 0)
        return "in" if readable else "out" if writable else NOTHING


class Reader(Waiter):
    """A thread that is blocked in recv(2)."""

    def __init__(self, end: socket.socket, size: int = ROOM, flags: int = 0) -> None:
        self._buffer = ctypes.create_string_buffer(size)
        descriptor = end.fileno()
        super().__init__(lambda: int(_recv(descriptor, self._buffer, size, flags)), descriptor, self._result)

    def wait(self) -> str:
        """Return the received bytes; on a busy host the kernel's worker may deliver them up to `_MOMENT` late."""
        wait_until(lambda: self.answer() != WAITS, _MOMENT)
        return self.answer()

    def _result(self, size: int) -> str:
        return ranges(self._buffer.raw[:size])


def _count(case: Setup) -> None:
    """Call FIONREAD when all data waits, after a partial read, and after all is read."""
    steps = case.steps
    if case.what != "after":
        case.early(FIRST)
    if case.what == "before":
        case.early(SECOND)
    case.insert()
    if case.what == "after":
        case.send(FIRST)
    if case.what != "before":
        case.send(SECOND)
    steps["count"] = case.counted()
    steps["read"] = case.read(PART)
    # The first recv(2) makes the parser process data that arrived before the insertion; the strparser does it later.
    case.settle()
    steps["count-then"] = case.counted()
    steps["rest"] = case.read_rest()
    steps["count-rest"] = case.counted()
    steps["last"] = case.read()
    steps["end"] = case.read()


def _readable(case: Setup) -> None:
    """Send three times; poll before and after each read. The last time, send two messages and read a part of them."""
    watch = Watch(case)
    case.insert()
    for number in range(1, _TIMES + 1):
        last = number == _TIMES
        case.send(FIRST)
        if last:
            case.send(SECOND)
        case.steps[f"ready-{number}"] = watch.look()
        case.steps[f"read-{number}"] = case.read(PART if last else ROOM)
        case.steps[f"ready-after-{number}"] = watch.look()
    # On a busy host the kernel's worker may deliver the last message late.
    case.settle()
    case.steps["rest"] = case.read_rest()
    case.steps["ready-after-rest"] = watch.look()


def _early(case: Setup) -> None:
    """Insert a socket with waiting data; then only recv(2), or poll(2) before it, is called."""
    case.early(FIRST)
    case.insert()
    watch = Watch(case) if case.what == "poll" else None
    if watch:
        case.steps["ready"] = watch.look()
    case.steps["read"] = case.read()
    case.send(SECOND)
    if watch:
        case.steps["ready-then"] = watch.look()
    case.steps["read-then"] = case.read()


def _reader(case: Setup) -> None:
    """Start a thread that blocks in recv(2), before the socket is inserted or after, and then send."""
    if case.what == "after":
        case.insert()
    reader = Reader(case.end)
    case.fixture.callback(reader.end)
    if case.what == "before":
        case.insert()
    case.steps["reader"] = reader.answer()
    case.send(FIRST, waits=False)
    case.steps["reader-then"] = reader.wait()
    # Data that the thread did not receive must still be on the socket.
    case.steps["read"] = case.read()


def _writable(case: Setup) -> None:
    """Fill the socket, let the peer read, and ask epoll whether the socket is writable."""
    case.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _NARROW)
    case.insert()
    if option := _WRITING[case.what]:
        case.option(*option)
    watch = Watch(case, writing=True)
    case.steps["ready"] = watch.look()
    case.steps["full"] = _fill(case, watch)
    if case.what == "sndtimeo":
        case.steps["timeout"] = attempt(case.end.send, bytes(FIRST))
    left = _MOST
    while left > 0 and (found := watch.edge()) == NOTHING:
        taken = traffic.take_all(case.peer, stream=False)
        left -= max(1, traffic.size_of(taken)) if taken else 1 << 12
        case.settle()
    case.steps["edge-then"] = found
    case.steps["send-then"] = traffic.send(case.end, bytes(FIRST))


_BRIEFLY: Final = struct.pack("@ll", 0, 20000)
"""20 ms of SO_SNDTIMEO."""
_WRITING: Final[Mapping[str, tuple[int, int, int | bytes] | None]] = {
    "plain": None,
    "sndtimeo": (socket.SOL_SOCKET, socket.SO_SNDTIMEO, _BRIEFLY),
    # TCP_NOTSENT_LOWAT
    "notsent_lowat": (socket.IPPROTO_TCP, 25, 1 << 12),
}
"""Socket options that decide when a socket is writable, or how long send(2) blocks."""


def _fill(case: Setup, watch: Watch) -> str:
    """Send until send(2) would block and only a read by the peer can make room; return the errno."""
    sent, size = 0, _NARROW if case.kind != "unix_dgram" else FIRST
    end = time.monotonic() + _FILLING
    while sent < _MOST and time.monotonic() < end:
        try:
            sent += case.end.send(bytes(size), socket.MSG_DONTWAIT)
        except OSError as error:
            case.settle()
            if watch.look() == NOTHING and _stuck(case):
                return name_of(error)
            select.select([], [case.end], [], _PAUSE)
    return f"not full after {sent}"


def _stuck(case: Setup) -> bool:
    """Whether the peer has acknowledged everything that fits its window, and for `sndtimeo` ignored a window probe."""
    if not sockets.is_tcp(case.kind):
        return True
    case.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    queued, unsent = (traffic.count(case.end, request) for request in (termios.TIOCOUTQ, traffic.UNSENT))
    probes = case.end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKOFF + 1)[_BACKOFF]
    return 0 < queued == unsent and (probes > 0 or case.what != "sndtimeo")


QUESTIONS: Final[Mapping[str, Question]] = {
    "count": _count,
    "readable": _readable,
    "early": _early,
    "reader": _reader,
    "writable": _writable,
}
"""By the parameter `ask` of a case; `option` has a table of its own."""
