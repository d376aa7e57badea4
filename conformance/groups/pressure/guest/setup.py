# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one pressure case: a sender, a reader, and the maps and programs between them."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Mapping
from typing import Final

from bpf.guest import syscall
from conformance.guestlib import fixture, sockets
from conformance.guestlib.answers import Steps, outcome
from conformance.guestlib.fixture import Fixture, ImpossibleError, Map, State
from conformance.guestlib.quiesce import fences, renew_fences

MOST: Final = 1 << 19
"""Bytes that a sender sends at most."""
STREAM: Final = struct.pack(f">{MOST // 4}I", *range(MOST // 4))
"""No two of its four-byte words are equal, so a comparison finds a lost, repeated or reordered byte."""
NARROW: Final = 1 << 14
"""Bytes of a small buffer."""
PATIENCE: Final = 1.0
"""Seconds in which a socket must become readable or writable."""
_ROOM: Final = 1 << 16
_FLAGS: Final = {"local": syscall.F_INGRESS, "egress": 0}
TARGET: Final = 0
"""The key of the target in its map."""


class Setup:
    """The sockets and maps of one case, or of its control, whose sockets are never in a map.

    `target` is in a map. `reader` receives the data: it is the target, or the target's peer for a redirect to egress.
    """

    def __init__(self, params: Mapping[str, str], steps: Steps, owned: Fixture, *, mapped: bool) -> None:
        self.fixture, self.steps, self.mapped = owned, steps, mapped
        self.kind, self.way, self.map_type = params["kind"], params["way"], params["map"]
        with fixture.possible(steps):
            self.target, self.peer = owned.pair(self.kind)
        self.sender, self.reader = self.peer, self.target
        self.home: Map | None = None
        self.source: socket.socket | None = None
        """The socket whose program redirects; None without a redirect."""
        self._sources: Map | None = None
        self.sent = self.got = 0

    def insert(self) -> None:
        """Insert the target, and the source of a redirect; ImpossibleError if the kernel refuses one of them."""
        if not self.mapped:
            return
        self.home = self.fixture.map(self.map_type)
        if self.way == "passed":
            fixture.attach(self.home, fixture.counting("sk_skb_verdict", "passed").descriptor)
        answer = self.home.insert(self.target, TARGET)
        if answer == "ok" and self.way != "passed":
            answer = self._redirect(self.home)
        self.steps["insert"] = answer
        if answer != "ok":
            raise ImpossibleError

    def _redirect(self, targets: Map) -> str:
        program, mode = self.way.split("_")
        self.source, far = self.fixture.pair(self.kind)
        self.sender = self.source if program == "msg" else far
        self.reader = self.target if mode == "local" else self.peer
        self._sources = self.fixture.map(self.map_type, 1)
        loaded = State(self.fixture, key=TARGET, flags=_FLAGS[mode]).load(program, self.map_type, targets)
        fixture.attach(self._sources, loaded, "sk_msg_verdict" if program == "msg" else "sk_skb_verdict")
        return self._sources.insert(self.source)

    def send(self, size: int) -> str:
        """Send the next bytes of `STREAM` without blocking; `"ok"`, or the errno."""
        data = STREAM[self.sent : self.sent + size]
        taken = outcome(self.sender.send, data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if isinstance(taken, str):
            return taken
        self.sent += taken
        return "ok"

    def settle(self) -> None:
        """Wait until data in flight has arrived."""
        if not fences().round(vsock=sockets.is_vsock(self.kind)):
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")

    def read(self) -> str:
        """Receive everything that was sent; `"all"`, or the difference."""
        while self.got < self.sent and select.select([self.reader], [], [], PATIENCE)[0]:
            data = outcome(self.reader.recv, _ROOM, socket.MSG_DONTWAIT)
            if data == "EAGAIN":
                self.settle()
            elif isinstance(data, str) or not data:
                return f"{data or 'eof'} after a part"
            elif not STREAM.startswith(data, self.got):
                return "other bytes after a part"
            else:
                self.got += len(data)
        return "all" if self.got == self.sent else "a part"

    def rmem(self) -> str:
        """Say whether SK_MEMINFO_RMEM_ALLOC of the reader is `"0"` or `"above 0"`."""
        return "above 0" if sockets.memory_of(self.reader)[0] else "0"
