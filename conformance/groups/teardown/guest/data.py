# SPDX-License-Identifier: GPL-2.0-only
"""States of the data when a socket leaves its map: how each is brought about, and what is in flight then."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from conformance.groups.teardown.guest.scene import PATIENCE
from conformance.groups.teardown.guest.scene import Scene
from conformance.groups.teardown.guest.waiters import WAITS
from conformance.groups.teardown.guest.waiters import Reader
from conformance.groups.teardown.guest.waiters import Sender
from conformance.groups.teardown.guest.waiters import look
from conformance.groups.teardown.guest.waiters import pollers
from conformance.guestlib import sockets
from conformance.guestlib.servant import send

SO: Final = "so"
"""The answer of a state that was reached."""
IDLE: Final = "no program ran"
"""The answer when nobody took what was meant for a program."""
LOCKED: Final = "locked"
"""The answer when a thread that waits keeps the socket locked: nothing can be asked of that socket any more."""

_UNSENT = 0x894B
"""SIOCOUTQNSD: how many bytes TCP has not sent even once."""
_LARGE = 1 << 14
"""Bytes that are sent at once where a message may be so large; what VSOCK buffers is a multiple of it."""
_FILLING = 8.0
"""Seconds in which TCP has asked for room; a busy machine makes it believe in a long round trip."""
_QUIET = 0.8
"""Seconds without movement after which nothing moves any more."""
_REFUSALS = 3
"""Refusals in a row after which a socket is full."""
_BACKOFF = 4
"""Where `struct tcp_info` has tcpi_backoff, the number of probes for room in vain."""
_NARROW = 1 << 14
"""Bytes of buffer where data is to stay in a sender."""


def _nothing(scene: Scene) -> str:
    return SO


@dataclass(frozen=True)
class State:
    """A state of the data."""

    before: Callable[[Scene], object] = _nothing
    """What to do before the socket is inserted."""
    arrange: Callable[[Scene], str] = _nothing
    """What to do afterwards; returns `SO`, or what is not as meant."""


def _native(scene: Scene) -> None:
    """Have data wait on the socket before it is inserted."""
    send(scene.peer, scene.launch("queued"))
    scene.settle()


def _passed(scene: Scene) -> str:
    """Have data wait that the socket's program let pass."""
    before = scene.runs()
    answer = send(scene.peer, scene.launch("queued"))
    scene.settle()
    if answer != "ok" or scene.runs() == before:
        return answer if answer != "ok" else IDLE
    return _arrived(scene)


def _redirected(scene: Scene) -> str:
    """Have data wait that was redirected to the socket."""
    answer = _backlog(scene)
    return _arrived(scene) if answer == SO else answer


def _backlog(scene: Scene) -> str:
    """Have data redirected to the socket; it waits in the backlog if it is to leave again and the socket is full."""
    assert scene.redirector
    answer = send(scene.redirector.far, scene.launch("queued"))
    scene.settle()
    if answer != "ok":
        return answer
    return SO if scene.redirector.runs() > scene.redirector.dropped() else IDLE


def _arrived(scene: Scene) -> str:
    return SO if select.select([scene.end], [], [], PATIENCE)[0] else "nothing to read"


def fill(scene: Scene) -> None:
    """Have the socket send until it would have to wait, and nothing moves any more."""
    # The receiver may not take back what room it promised, so it is the sender who is given little.
    scene.end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _NARROW)
    taken = bytearray()
    deadline = time.monotonic() + _FILLING
    size = len(scene.payload()) if scene.kind == "unix_dgram" else _LARGE
    refusals = 0
    moved = time.monotonic()
    while refusals < _REFUSALS:
        if time.monotonic() > deadline:
            raise TimeoutError("the socket does not fill up")
        data = _repeated(scene.payload(), size)
        answer = send(scene.end, data)
        if answer == "EAGAIN":
            # What is too large may still fit in part, and room may be made meanwhile.
            size = min(size, len(scene.payload()))
            scene.settle()
            stuck = _stuck(scene, quiet=time.monotonic() - moved)
            refusals = refusals + 1 if stuck else 0
            if not stuck:
                time.sleep(0.005)
        else:
            taken += data if answer == "ok" else data[: int(answer.split()[0])]
            refusals = 0
            moved = time.monotonic()
    scene.in_flight["filled"] = bytes(taken)


def _repeated(data: bytes, size: int) -> bytes:
    return (data * (size // len(data) + 1))[:size]


def _stuck(scene: Scene, quiet: float) -> bool:
    """Whether the socket waits for nothing but its peer to read: TCP has asked for room, and there is none.

    Before that, an acknowledgement may yet make room, or come with a larger window than the last one. On a busy machine
    TCP asks late; there it must do that nothing moved for several of its shortest timeouts.
    """
    if not sockets.is_tcp(scene.kind):
        return True
    scene.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    backoff = scene.end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BACKOFF + 1)[_BACKOFF]
    queued, unsent = (
        struct.unpack("=i", fcntl.ioctl(scene.end, request, bytes(4)))[0] for request in (termios.TIOCOUTQ, _UNSENT)
    )
    return bool(unsent) and (quiet > _QUIET or (queued == unsent and backoff > 0))


def _corked(scene: Scene) -> str:
    """Have data wait for more to be sent, before the program is asked again."""
    answer = send(scene.end, scene.launch("queued"))
    scene.settle()
    return answer if answer != "ok" else SO if scene.runs() else IDLE


def _applied(scene: Scene) -> str:
    """Have the program's answer hold for more than was sent."""
    before = scene.runs()
    send(scene.end, scene.payload())
    send(scene.end, scene.payload())
    scene.settle()
    scene.drains()["peer"]()
    return SO if scene.runs() == before + 1 else f"{scene.runs() - before} runs"


def _reader(scene: Scene) -> str:
    """Have a thread wait for data, and see that nobody else must wait for that thread."""
    scene.waiters["reader"] = Reader(scene.end)
    other = look(scene.end)
    if other.answer() == WAITS:
        # It may merely have met somebody who was about to leave.
        scene.settle()
    if other.answer() == WAITS:
        scene.waiters["reader"].end()
        other.end()
        return LOCKED
    return _all_wait(scene)


def _pollers(scene: Scene) -> str:
    """Have threads wait until data can be read."""
    scene.waiters |= pollers(scene.end)
    return _all_wait(scene)


def _sender(scene: Scene) -> str:
    """Have a thread wait until its data can be sent."""
    scene.waiters["sender"] = Sender(scene.end, scene.launch("queued"))
    return _all_wait(scene)


def _all_wait(scene: Scene) -> str:
    return next((answer for each in scene.waiters.values() if (answer := each.answer()) != WAITS), SO)


DATA: Final[Mapping[str, State]] = {
    "none": State(),
    "native": State(before=_native),
    "passed": State(arrange=_passed),
    "redirected": State(arrange=_redirected),
    "backlog": State(before=fill, arrange=_backlog),
    "corked": State(arrange=_corked),
    "applied": State(arrange=_applied),
    "reader": State(arrange=_reader),
    "pollers": State(arrange=_pollers),
    "sender": State(before=fill, arrange=_sender),
}
"""By name."""
