# SPDX-License-Identifier: GPL-2.0-only
"""States of the data when a socket leaves its map: how to reach each state, and which data is in flight then."""

from __future__ import annotations

import select
import socket
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from conformance.groups.teardown.guest.setup import PATIENCE, TeardownSetup
from conformance.groups.teardown.guest.waiters import Reader, Sender, look, pollers
from conformance.guestlib import sockets, traffic
from conformance.guestlib.traffic import send
from conformance.guestlib.waiters import WAITS

SO: Final = "so"
"""The answer if the data reached its state."""
IDLE: Final = "no program ran"
"""The answer if no program took the data."""
LOCKED: Final = "locked"
"""The answer if a waiting thread keeps the socket locked: every call on that socket would block."""

_LARGE = 1 << 14
"""Bytes per send(2) for kinds that accept such large messages; VSOCK's buffer is a multiple of it."""
_FILLING = 8.0
"""Seconds within which TCP has sent a window probe; a busy machine makes TCP assume a long round trip."""
_PROBE = 5
"""Milliseconds until a socket that is not writable is tried again: poll(2) does not report a little room."""
_QUIET = 0.8
"""Seconds without movement after which the data counts as settled."""
_REFUSALS = 3
"""After this many EAGAIN in a row the socket is full."""
_BACKOFF = 4
"""Offset of tcpi_backoff in `struct tcp_info`, the number of unanswered window probes."""
_NARROW = 1 << 14
"""Buffer size for data that must stay in the sender."""


def _nothing(case: TeardownSetup) -> str:
    return SO


@dataclass(frozen=True)
class DataState:
    """A state of the data."""

    before: Callable[[TeardownSetup], object] = _nothing
    """Called before the socket is inserted."""
    arrange: Callable[[TeardownSetup], str] = _nothing
    """Called afterwards; returns `SO`, or the reason why the state was not reached."""


def _native(case: TeardownSetup) -> None:
    """Send data that waits on the socket before it is inserted."""
    send(case.peer, case.launch("queued"))
    case.settle()


def _launch(case: TeardownSetup, through: socket.socket, ran: Callable[[], bool], *, arrives: bool) -> str:
    """Send the data that will be in flight. Check that a program ran, and with `arrives` that the data can be read."""
    answer = send(through, case.launch("queued"))
    case.settle()
    if answer != "ok":
        return answer
    if not ran():
        return IDLE
    return SO if not arrives or select.select([case.end], [], [], PATIENCE)[0] else "nothing to read"


def _passed(case: TeardownSetup) -> str:
    """Send data that the socket's program passes, and that then waits on the socket."""
    before = case.runs()
    return _launch(case, case.peer, lambda: case.runs() > before, arrives=True)


def _redirected(case: TeardownSetup, *, arrives: bool = True) -> str:
    """Send data that is redirected to the socket, and waits there."""
    assert case.redirector
    return _launch(case, case.redirector.far, case.redirector.redirected, arrives=arrives)


def _backlog(case: TeardownSetup) -> str:
    """Redirect data to the egress of the socket, which is full: the data waits on the backlog."""
    return _redirected(case, arrives=False)


def fill(case: TeardownSetup) -> None:
    """Let the socket send until send(2) would block and no more data moves."""
    # The receiver may not shrink its window, so the sender's buffer is made small.
    case.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _NARROW)
    taken = bytearray()
    deadline = time.monotonic() + _FILLING
    size = len(traffic.payload()) if case.kind == "unix_dgram" else _LARGE
    refusals = 0
    moved = time.monotonic()
    writable = select.poll()
    writable.register(case.end, select.POLLOUT)
    while refusals < _REFUSALS:
        if time.monotonic() > deadline:
            raise TimeoutError("the socket does not fill up")
        data = traffic.payload()
        data = (data * (size // len(data) + 1))[:size]
        answer = send(case.end, data)
        if answer == "EAGAIN":
            # A smaller message may still fit, and the peer may make room meanwhile.
            size = min(size, len(traffic.payload()))
            case.settle()
            stuck = _stuck(case, quiet=time.monotonic() - moved)
            refusals = refusals + 1 if stuck else 0
            if not stuck:
                writable.poll(_PROBE)
        else:
            taken += data if answer == "ok" else data[: int(answer.split()[0])]
            refusals = 0
            moved = time.monotonic()
    case.in_flight["filled"] = bytes(taken)


def _stuck(case: TeardownSetup, quiet: float) -> bool:
    """Whether only a read by the peer lets the socket send: TCP's window probe was answered with no room.

    Before that, an acknowledgement may still make room, or have a larger window than the last one. On a busy machine
    the probe is late; there the socket counts as stuck if nothing moves for several of TCP's shortest timeouts.
    """
    if not sockets.is_tcp(case.kind):
        return True
    case.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    backoff = case.end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKOFF + 1)[_BACKOFF]
    queued, unsent = (traffic.count(case.end, request) for request in (termios.TIOCOUTQ, traffic.UNSENT))
    return bool(unsent) and (quiet > _QUIET or (queued == unsent and backoff > 0))


def _corked(case: TeardownSetup) -> str:
    """Send data that the program corks: it waits until more is sent."""
    return _launch(case, case.end, lambda: case.runs() > 0, arrives=False)


def _applied(case: TeardownSetup) -> str:
    """Have the program's verdict apply to more bytes than were sent."""
    before = case.runs()
    send(case.end, traffic.payload())
    send(case.end, traffic.payload())
    case.settle()
    case.drains()["peer"]()
    return SO if case.runs() == before + 1 else f"{case.runs() - before} runs"


def _reader(case: TeardownSetup) -> str:
    """Have a thread wait for data, and check that it does not hold the socket lock."""
    case.wait(reader=Reader(case.end))
    other = look(case.end.fileno())
    if other.answer() == WAITS:
        # Another thread may hold the lock only for a moment.
        case.settle()
    if other.answer() == WAITS:
        case.waiters["reader"].end()
        other.end()
        return LOCKED
    return _all_wait(case)


def _pollers(case: TeardownSetup) -> str:
    """Have threads wait until data can be read."""
    case.wait(**pollers(case.end))
    return _all_wait(case)


def _sender(case: TeardownSetup) -> str:
    """Have a thread wait until its data can be sent."""
    case.wait(sender=Sender(case.end, case.launch("queued")))
    return _all_wait(case)


def _all_wait(case: TeardownSetup) -> str:
    return next((answer for each in case.waiters.values() if (answer := each.answer()) != WAITS), SO)


DATA: Final[Mapping[str, DataState]] = {
    "none": DataState(),
    "native": DataState(before=_native),
    "passed": DataState(arrange=_passed),
    "redirected": DataState(arrange=_redirected),
    "backlog": DataState(before=fill, arrange=_backlog),
    "corked": DataState(arrange=_corked),
    "applied": DataState(arrange=_applied),
    "reader": DataState(arrange=_reader),
    "pollers": DataState(arrange=_pollers),
    "sender": DataState(before=fill, arrange=_sender),
}
"""By name."""
