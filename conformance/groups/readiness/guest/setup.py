# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one readiness case: a reader, its peer, its map, and the programs between them.

The data is one stream of bytes in which no four bytes occur twice. So an answer such as `0-40` names the bytes that a
call returned, and a lost, repeated or reordered byte changes the answer. A process loads each program once, and makes
the two maps of the way `redirected` once.
"""

from __future__ import annotations

import select
import socket
import struct
import termios
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from bpf.guest import syscall
from conformance.guestlib import fixture, procfs, sockets, traffic
from conformance.guestlib.answers import Steps, attempt, outcome
from conformance.guestlib.fixture import WHEN_WRONG, Fixture, ImpossibleError, State
from conformance.guestlib.quiesce import fences, renew_fences

ROOM: Final = 1000
"""Bytes of a buffer that has room for all waiting data."""
NOTHING: Final = "nothing"
IDLE: Final = "no program ran"
"""The answer of `way` if the program did not run on the data."""
_STREAM: Final = struct.pack(">32768H", *range(32768))
_LEAST: Final = 4
"""Bytes that identify a place of the stream."""
_PATIENCE: Final = 0.5
"""Seconds in which data must be readable after its program has run."""
_UNIT: Final = 20
"""The size of each message and each read is a multiple of this number of bytes."""
_PROGRAMS: Final = {
    "none": (),
    "redirected": (),
    "msg": ("sk_msg_verdict",),
    "passed": ("sk_skb_verdict",),
    "dropped": ("sk_skb_verdict",),
    "parser": ("sk_skb_stream_parser", "sk_skb_stream_verdict"),
}
"""The programs of the reader's map, by the way of the data."""


class Setup:
    """The sockets and the map of one case, or of its control, whose sockets are never in a map."""

    def __init__(self, params: Mapping[str, str], steps: Steps, owned: Fixture, *, mapped: bool) -> None:
        self.fixture, self.steps, self.mapped = owned, steps, mapped
        self.kind, self._way, self._map_type = params["kind"], params["way"], params["map"]
        self.what = params["what"]
        self._stream = sockets.SORTS[self.kind][1] == socket.SOCK_STREAM
        with fixture.possible(steps):
            self.end, self.peer = owned.pair(self.kind)
        self.source = self.peer
        self._runs: Callable[[], int] | None = None
        self._sent = 0

    def insert(self) -> None:
        """Insert the reader into its map; ImpossibleError if the kernel refuses it."""
        if not self.mapped:
            return
        self.steps["insert"] = self._enter()
        if self.steps["insert"] != "ok":
            raise ImpossibleError

    def _enter(self) -> str:
        if self._way == "redirected":
            return self._redirect()
        home = self.fixture.map(self._map_type)
        for attach_type in _PROGRAMS[self._way]:
            program = fixture.counting(attach_type, self._way, answer=0 if self._way == "dropped" else 1)
            fixture.attach(home, program.descriptor, attach_type)
            self._runs = None if self._way == "msg" else program.runs
        return home.insert(self.end)

    def _redirect(self) -> str:
        near, self.source = self.fixture.pair(self.kind)
        redirector = _redirector(self._map_type)
        self._runs = redirector.runs
        answer = redirector.targets.insert(self.end)
        return redirector.sources.insert(near) if answer == "ok" else answer

    def early(self, size: int) -> None:
        """Send bytes to the reader before it is in a map."""
        self._arrive(self.peer, size)

    def send(self, size: int, flags: int = 0, *, waits: bool = True) -> None:
        """Send bytes by the way of the case; unless `waits` is false, return when the reader is readable."""
        # The control of a verdict that drops everything is a socket to which no data is sent.
        if not self.mapped and self._way == "dropped":
            return
        before = self._runs() if self._runs else 0
        self._arrive(self.source, size, flags)
        if self._runs:
            self.steps["way"] = "so" if self._runs() > before else IDLE
        if waits and self._way != "dropped":
            # On a busy host a fence may return before the kernel's worker has delivered the data.
            select.select([self.end], [], [], _PATIENCE)
            if self._way == "redirected":
                self.settle()

    def _arrive(self, source: socket.socket, size: int, flags: int = 0) -> None:
        source.send(_STREAM[self._sent : self._sent + size], flags | socket.MSG_DONTWAIT)
        self._sent += size
        self.settle()

    def settle(self) -> None:
        """Wait until data in flight has arrived."""
        if not fences().round(vsock=sockets.is_vsock(self.kind)):
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")

    def read(self, size: int = ROOM, flags: int = 0) -> str:
        """Call recv(2) without blocking; return the range of the received bytes, or the errno."""
        return ranges(outcome(self.end.recv, size, flags | socket.MSG_DONTWAIT))

    def read_rest(self) -> str:
        """Receive the rest of a stream, which may come in several pieces, or the next datagram."""
        found = self.read()
        while self._stream and (more := self.read()) not in ("EAGAIN", NOTHING):
            found = _joined(found, more)
        return found

    def counted(self) -> str:
        """Return the result of FIONREAD."""
        return str(outcome(traffic.count, self.end, termios.FIONREAD))

    def option(self, level: int, name: int, value: int | bytes) -> None:
        """Set a socket option of the reader, and record the answer."""
        # Python's setsockopt() accepts only numbers for VSOCK sockets.
        data = value if isinstance(value, bytes) else struct.pack("=i", value)
        answer = procfs.LIBC.setsockopt(self.end.fileno(), level, name, data, len(data))
        self.steps["set"] = attempt(procfs.check, answer)


def ranges(data: bytes | str) -> str:
    """Name the ranges of the stream that these bytes are, in the order received; an errno stays as it is."""
    if isinstance(data, str):
        return data
    parts: list[str] = []
    while data:
        place, length = _STREAM.find(data[:_LEAST]), len(data)
        if place < 0:
            return " ".join([*parts, f"{length} bytes not sent so"])
        while not _STREAM.startswith(data[:length], place):
            length -= 1
        # The byte after the end of a message may be equal by chance.
        length -= (place + length) % _UNIT if length < len(data) else 0
        parts.append(f"{place}-{place + length}")
        data = data[max(length, 1) :]
    return " ".join(parts) or NOTHING


def _joined(first: str, second: str) -> str:
    """Join the answers of two calls; two adjacent ranges become one."""
    head, _, end = first.rpartition("-")
    begin, _, tail = second.partition("-")
    return f"{head}-{tail}" if end == begin else f"{first} {second}"


class _Redirector:
    """Two maps: the program of `sources` redirects what its sockets receive to the only socket of `targets`."""

    def __init__(self, map_type: str) -> None:
        self._owned = Fixture()
        self.sources, self.targets = self._owned.map(map_type, 1), self._owned.map(map_type, 1)
        self._state = State(self._owned, flags=syscall.F_INGRESS)
        fixture.attach(self.sources, self._state.load("skb", map_type, self.targets))

    def runs(self) -> int:
        """Return how often the program has redirected."""
        return self._state.tallies()[0]


_redirector = cache(_Redirector)
WHEN_WRONG.append(_redirector.cache_clear)
