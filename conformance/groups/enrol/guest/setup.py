# SPDX-License-Identifier: GPL-2.0-only
"""Prove that a socket is in a map: redirect data through it, and see that its owner can use it as before.

The setup has a map to enrol in and a TCP pair, near and far. The enrolled socket has an owner and a peer. In the role
`target` nothing runs on the enrolled socket, and what far sends to near is redirected to it: the peer gets it. In the
role `source` the map has the program: what the peer sends to the enrolled socket is redirected to near, far gets it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from conformance.guestlib import child, fixture, sockets, traffic
from conformance.guestlib.answers import Steps
from conformance.guestlib.child import Child
from conformance.guestlib.fixture import Fixture, Map, State
from conformance.guestlib.quiesce import fences
from conformance.guestlib.traffic import Messages

_DEADLINE = 4.0
_GRACE = 0.5
"""More than twice TCP's shortest timeout."""
SHORT_GRACE = 0.1
"""A shorter grace for cases in which some kernels lose much: data that is not lost only has to pass the fences."""
_COUNTERPART = "tcp4"
"""The only kind that can be IN and OUT on every kernel with maps of sockets."""


class EnrolSetup:
    """A map, the program and the sockets of one case, which its fixture owns, and the answers of its steps."""

    def __init__(self, params: Mapping[str, str], owned: Fixture, steps: Steps) -> None:
        self.fixture, self.params, self.steps = owned, params, steps
        self.role, self.kind, self.map_type = params["role"], params["kind"], params["map"]
        self.drains: dict[str, Callable[[], Messages]] = {}
        """By the name of each socket, the function that reads its waiting data."""
        self._owner_last = False
        """Whether a child is asked for data only if some is missing: asking is the most expensive look."""
        self._waiting = b""
        self._dropped = 0
        self.grace = _GRACE
        """Seconds to look for missing data although the kernel seems quiescent."""
        self.cookie = b""
        """The cookie of the socket to enrol."""
        self._refused = False
        """Whether the map refused the socket."""
        self.duplicate = -1
        """This process's duplicate of the owner's descriptor."""
        owned.callback(self.close_duplicate)
        near, self._far = owned.pair(_COUNTERPART)
        self.watch("near", near, _COUNTERPART)
        self.watch("far", self._far, _COUNTERPART)
        self.map = self.new_map()
        """The map to enrol in, at key 0."""
        other = self.new_map()
        self._state = State(owned)
        targets, sources = (self.map, other) if self.role == "target" else (other, self.map)
        self.program = self._state.load("skb", self.map_type, targets)
        fixture.attach(sources, self.program)
        other.insert(near)

    def make_child(self, *, private: bool = False) -> Child:
        """Return a child for this case only, or the shared one, which keeps nothing of the case."""
        self.child = child.for_case(self.fixture, private=private)
        return self.child

    def make_in_child(self, owner: Child) -> None:
        """Have a child create the socket to enrol; ImpossibleError if the kernel has no such kind."""
        with fixture.possible(self.steps):
            peer = child.make_connected(owner, self.kind)
        self.introduce(owner, peer)

    def own(self) -> socket.socket:
        """Create the socket to enrol in this process; ImpossibleError if the kernel has no such kind."""
        with fixture.possible(self.steps):
            ours, peer = self.fixture.pair(self.kind)
        self.introduce(ours, peer)
        return ours

    def make_listener_in_child(self, owner: Child) -> Any:
        """Have a child create the listener to enrol; return its address."""
        with fixture.possible(self.steps):
            address = owner.own("listen", self.kind)
        self.cookie = owner.cookie
        return address

    def meet_accepted(self, owner: Child, address: Any) -> None:
        """Connect to the listener of a child, which accepts; from now on data is sent over this connection."""
        client = sockets.fresh(self.kind)
        client.connect(address)
        owner.own("accept")
        self.face(owner, client)

    def introduce(self, owner: Child | socket.socket, peer: socket.socket) -> None:
        """Set the owner and the peer of the socket to enrol; the peer is closed in the end."""
        self.cookie = owner.cookie if isinstance(owner, Child) else sockets.cookie_of(owner)
        self.face(owner, peer)

    def face(self, owner: Child | socket.socket | None, peer: socket.socket) -> None:
        """Set the peer; a socket before accept(2) has no owner."""
        self.peer = self.fixture.own(peer)
        self.watch("peer", peer)
        if owner is not None:
            self.owned_by(owner)

    def owned_by(self, owner: Child | socket.socket) -> None:
        """Set the owner of the socket that is connected to the peer."""
        self._send = owner.send if isinstance(owner, Child) else partial(traffic.send, owner)
        if isinstance(owner, Child):
            self.drains["owner"] = owner.receive
        else:
            self.watch("owner", owner)

    def watch(self, name: str, end: int | socket.socket, kind: str = "") -> None:
        """Read from one more socket while it is open; by default it has the kind of the enrolled one."""
        stream = sockets.connects(kind or self.kind)

        def drain() -> Messages:
            descriptor = end if isinstance(end, int) else end.fileno()
            return traffic.drain(descriptor, stream=stream) if descriptor >= 0 else []

        self.drains[name] = drain

    def watch_duplicate(self) -> None:
        """Read from the duplicate, too."""
        self.watch("duplicate", self.duplicate)

    def close_duplicate(self) -> None:
        """Close the duplicate of the enrolled socket, if there is one."""
        self.drains.pop("duplicate", None)
        if self.duplicate >= 0:
            os.close(self.duplicate)
        self.duplicate = -1

    def insert(self, what: int | socket.socket) -> bool:
        """Insert the socket and look it up; return whether that succeeded."""
        self.steps["insert"] = self.map.insert(what)
        self._refused = self.steps["insert"] != "ok"
        self.look()
        return not self._refused

    def look(self, suffix: str = "", key: int = 0, target: Map | None = None) -> None:
        """Look up in the map, unless it refused, or in another one: `"cookie"` if the owner's socket is there."""
        if target is not None or not self._refused:
            self.steps[f"lookup{suffix}"] = (self.map if target is None else target).whose(key, self.cookie)

    def redirected(self, meanwhile: Callable[[], None] | None = None) -> str:
        """Redirect data through the enrolled socket, twice with `meanwhile` in between; returns `"data: WHERE"`."""
        return self._deliver(partial(traffic.send, self._far if self.role == "target" else self.peer), meanwhile)

    def sent(self) -> str:
        """Have the owner send, for which no program runs; returns `"data: WHERE"`."""
        return self._deliver(self._send)

    def received(self) -> str:
        """Have the peer send to the owner; returns `"data: WHERE"`."""
        return self._deliver(partial(traffic.send, self.peer))

    def queue_data(self, sending: Callable[[bytes], object] | None = None) -> None:
        """Have the peer send to the owner, and leave the data in the queue; the next read gets it first."""
        self._waiting = traffic.payload()
        (sending or partial(traffic.send, self.peer))(self._waiting)
        self.settle()

    def prove(self, suffix: str = "") -> None:
        """Redirect data, and have the owner use the socket in the directions without a program.

        The last step also finds data that the owner must not get.
        """
        self._owner_last = True
        self.steps[f"redirect{suffix}"] = self.redirected()
        self._owner_last = self.role == "target"
        self.steps[f"send{suffix}"] = self.sent()
        self._owner_last = False
        if self.role == "target":
            self.steps[f"receive{suffix}"] = self.received()

    def use(self) -> None:
        """Have the owner send and receive."""
        self.steps["send"] = self.sent()
        self.steps["receive"] = self.received()

    def new_map(self, map_type: str = "", entries: int = 4) -> Map:
        """Create one more map, of the case's type unless another is given."""
        return self.fixture.map(map_type or self.map_type, entries)

    def settle(self) -> bool:
        """Wait until data in flight has arrived; False if it does not."""
        return fences().round(vsock=sockets.is_vsock(self.kind))

    def _deliver(self, sending: Callable[[bytes], str], meanwhile: Callable[[], None] | None = None) -> str:
        parts = {"sent": traffic.payload()}
        answer = sending(parts["sent"])
        if meanwhile is not None and answer == "ok":
            meanwhile()
            parts = {"sent before": parts["sent"], "sent after": traffic.payload()}
            answer = sending(parts["sent after"])
        return self.place_of_data(parts) if answer == "ok" else answer

    def place_of_data(self, sent: Mapping[str, bytes] | None = None) -> str:
        """Wait until the kernel is at rest, and return which sockets got the waiting and the sent data."""
        parts = dict(sent or {})
        if self._waiting:
            parts, self._waiting = {"queued": self._waiting, **parts}, b""
        found = traffic.Parts(parts, self.drains)

        def look() -> None:
            for name, drain in self.drains.items():
                if name != "owner":
                    found.messages[name] += drain()
            if "owner" in self.drains and not (self._owner_last and missing() <= 0):
                found.messages["owner"] += self.drains["owner"]()

        def missing() -> int:
            return found.missing() - (self._state.tallies()[3] - self._dropped)

        rest = traffic.settle(
            look,
            missing,
            lambda: self.grace,
            _DEADLINE,
            vsock=sockets.is_vsock(self.kind),
            runs=self._state.tallies,
        )
        self._dropped = self._state.tallies()[3]
        return f"{'' if rest.settled else 'never at rest, '}data: {found.places()}"
