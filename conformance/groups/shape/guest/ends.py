# SPDX-License-Identifier: GPL-2.0-only
"""The sockets of a case: the socket whose program changes data, its peer, and a second pair for redirects."""

from __future__ import annotations

import socket

from conformance.groups.shape.guest.program import Seen, Shaper, Turn
from conformance.guestlib import sockets, traffic
from conformance.guestlib.answers import Steps
from conformance.guestlib.fixture import Fixture, possible
from conformance.guestlib.traffic import Messages

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
"""The bytes of a short message are all different, so each byte shows its place."""
LATER, NATIVE = b"LATER", b"NATIVE"
_PATIENCE = 4.0
_LONGEST = 200
"""Bytes of one socket that are shown; of more, only their number."""
_NO_GRACE = 0.0


class Ends:
    """Two pairs of sockets. The program runs for what `ours` sends or receives."""

    def __init__(self, owned: Fixture, steps: Steps, shaper: Shaper, kind: str, *, egress_of: str = "") -> None:
        self.steps, self.shaper, self.kind = steps, shaper, kind
        self._stream = sockets.connects(kind)
        with possible(steps):
            self.ours, self.peer = owned.pair(kind)
            self.target, self.far = owned.pair(egress_of or kind)
        self._waiting: dict[str, Messages] = {name: [] for name in self._readers()}
        self._held_back = False

    def _readers(self) -> dict[str, socket.socket]:
        return {"socket": self.ours, "peer": self.peer, "target": self.target, "far": self.far}

    def insert(self, *, target: bool) -> bool:
        """Insert the socket and, if asked, the target of redirects; return whether every insertion worked."""
        self.shaper.order(Turn())
        self.steps["insert"] = self.shaper.source.insert(self.ours)
        if target and self.steps["insert"] == "ok":
            self.steps["insert-target"] = self.shaper.targets.insert(self.target)
        return set(self.steps.values()) == {"ok"}

    def delete(self) -> str:
        """Delete the socket from the map."""
        return self.shaper.source.delete()

    def receive(self, wanted: int = 0) -> dict[str, Messages]:
        """Wait until no data is in flight, and return the messages of each receiver by its name.

        Return earlier once `wanted` bytes have arrived; the next call returns the rest.
        """
        traffic.settle(
            self._look,
            lambda: wanted - sum(map(traffic.size_of, self._waiting.values())),
            lambda: _NO_GRACE,
            _PATIENCE,
            vsock=sockets.is_vsock(self.kind),
            runs=self.shaper.runs,
            busy=self._unsent,
            arrived=wanted > 0,
        )
        found, self._waiting = self._waiting, {name: [] for name in self._waiting}
        return {name: messages for name, messages in found.items() if messages}

    def _look(self) -> None:
        for name, end in self._readers().items():
            if end.fileno() >= 0:
                traffic.add(self._waiting[name], traffic.drain(end.fileno(), stream=self._stream))

    def _unsent(self) -> bool:
        """Whether TCP holds unsent bytes, as after MSG_MORE, or held some at the last look."""
        if not sockets.is_tcp(self.kind):
            return False
        before, senders = self._held_back, (self.ours, self.target)
        self._held_back = any(traffic.count(end, traffic.UNSENT) for end in senders if end.fileno() >= 0)
        return before or self._held_back


def text(found: dict[str, Messages], hidden: range = range(0), written: tuple[int, ...] = ()) -> str:
    """Say which socket received which bytes.

    A byte that is `hidden` and not `written` is shown as a dot: a helper added it, and its value is undefined.
    """
    parts = []
    for name, messages in found.items():
        data = b"".join(each for each in messages if isinstance(each, bytes))
        shown = "".join("." if n in hidden and n not in written else _sign(byte) for n, byte in enumerate(data))
        parts += [f"{name} {shown if len(data) <= _LONGEST else f'{len(data)} bytes'}"] if data else []
        # A persistent error is shown once, although each look finds it.
        parts += [f"{name} {each}" for each in dict.fromkeys(messages) if isinstance(each, str)]
        parts += [f"{name} an empty message"] if b"" in messages else []
    return ", ".join(parts) or "nothing"


def window(seen: Seen, message: bytes) -> str:
    """Say which bytes of a message lie between data and data_end: `FIRST..END`, `"nothing"` or `"other bytes"`."""
    if not seen.visible:
        return "nothing"
    start = message.find(bytes([seen.first & 0xFF]))
    end = start + seen.visible
    if start < 0 or end > len(message) or message[end - 1] != seen.last:
        return "other bytes"
    return f"{start}..{end}"


def counted(*answers: str | int) -> str:
    """Join the answers of several calls."""
    return ", ".join(str(answer) for answer in answers)


def _sign(byte: int) -> str:
    return chr(byte) if 0x20 < byte < 0x7F else f"<{byte:02x}>"
