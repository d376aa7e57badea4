# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one ancillary case: `sender` sends, the programs of the maps run, and `reader` reads."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from bpf.guest import syscall
from conformance.guestlib import fixture, sockets, traffic
from conformance.guestlib.answers import Steps, wait_until
from conformance.guestlib.fixture import Fixture, Map, State
from conformance.guestlib.quiesce import fences, renew_fences

PATIENCE: Final = 2.0
"""Seconds to wait for an event that the kernel must deliver."""
GRACE: Final = 0.03
"""Seconds to wait for an event that may never happen."""


class Received(NamedTuple):
    """The four results of one recvmsg(2)."""

    data: bytes
    messages: Mapping[tuple[int, int], bytes]
    """The control messages, by level and type."""
    flags: int
    address: object


class AncillarySetup:
    """The sockets, maps and programs of one case, which its fixture owns."""

    def __init__(self, params: Mapping[str, str], owned: Fixture, steps: Steps, *, mapped: bool) -> None:
        """Connect two sockets; in a redirecting mode there are two more."""
        self.fixture, self.steps, self.mapped = owned, steps, mapped
        self.what, self.kind, self.map_type = params["what"], params["kind"], params["map"]
        waits = self.what == "rights-wait"
        self.mode = "egress" if waits else params["mode"]
        self.ends = params["mode"] if waits else ""
        """How data leaves the backlog: `drained` or `closed`."""
        self._home = Map(-1)
        with fixture.possible(steps):
            self.sender, self.end = self._pair()
            self.reader = self.end
            redirects = mapped and self.mode in ("local", "egress")
            self.target, self.far = self._pair() if redirects else (self.end, self.sender)
        self.source = self.target if redirects and self.mode == "egress" else self.sender
        """The socket whose address recvfrom(2) of the reader must return."""
        if redirects:
            self.reader = self.target if self.mode == "local" else self.far

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        if sockets.connects(self.kind):
            return self.fixture.pair(self.kind)
        # The sockets of a socketpair(2) have no address to return.
        first, second = (self.fixture.own(sockets.bound(self.kind)) for _ in range(2))
        first.connect(second.getsockname())
        second.connect(first.getsockname())
        return first, second

    def insert(self) -> bool:
        """Insert the sockets of the mode; return whether the kernel accepted all of them."""
        if not self.mapped:
            return True
        source = self._home = self.fixture.map(self.map_type)
        if self.mode == "msg":
            fixture.attach(source, fixture.counting("sk_msg_verdict", "first").descriptor, "sk_msg_verdict")
            self.steps["insert"] = source.insert(self.sender)
        elif self.mode == "member":
            self.steps["insert"] = source.insert(self.end)
        elif self.mode == "pass":
            fixture.attach(source, fixture.counting("sk_skb_verdict", "first").descriptor)
            self.steps["insert"] = source.insert(self.end)
        else:
            self._redirect(source)
        return self.steps["insert"] == "ok"

    def _redirect(self, source: Map) -> None:
        """Attach a program that redirects: an SK_MSG program for `zerocopy-send`, a verdict for all other questions."""
        targets = self.fixture.map(self.map_type)
        state = State(self.fixture, flags=syscall.F_INGRESS if self.mode == "local" else 0)
        sends = self.what == "zerocopy-send"
        program = state.load("msg" if sends else "skb", self.map_type, targets)
        fixture.attach(source, program, "sk_msg_verdict" if sends else "sk_skb_verdict")
        self.steps["insert"] = source.insert(self.sender if sends else self.end)
        if self.steps["insert"] == "ok":
            self.steps["insert"] = targets.insert(self.target)

    def delete(self) -> None:
        """Delete the socket from its map."""
        if self.mapped:
            self._home.delete()

    def settle(self) -> None:
        """Wait until data in flight has arrived; TimeoutError if a queue of the kernel is stuck."""
        if not fences().round(vsock=sockets.is_vsock(self.kind)):
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")

    def received(self, size: int = traffic.ROOM, room: int = 0, patience: float = PATIENCE) -> Received:
        """Wait for one message and receive it; raises the OSError of recvmsg(2)."""
        poll = select.poll()
        poll.register(self.reader, select.POLLIN)
        poll.poll(1000 * patience)
        data, messages, flags, address = self.reader.recvmsg(size, room, socket.MSG_DONTWAIT)
        return Received(data, {(level, kind): value for level, kind, value in messages}, flags, address)

    def rest(self) -> bytes:
        """Read all data that waits at the reader."""
        self.settle()
        found = traffic.take_all(self.reader, stream=sockets.connects(self.kind))
        return b"".join(each for each in found if isinstance(each, bytes))

    def all_of(self, size: int) -> bytes:
        """Read `size` bytes, or all that arrive within PATIENCE."""
        found = bytearray()

        def enough() -> bool:
            found.extend(self.rest())
            return len(found) >= size

        wait_until(enough, PATIENCE)
        return bytes(found)
