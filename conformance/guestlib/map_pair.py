# SPDX-License-Identifier: GPL-2.0-only
"""Two maps with programs that pass data and redirect it, and the ways out of both for a socket that is in them."""

from __future__ import annotations

import io
import os
import signal
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from functools import cached_property
from typing import Final

from bpf.guest import links, maps, syscall
from conformance.guestlib import fixture, sockets, ways_out
from conformance.guestlib.fixture import Fixture, State
from conformance.guestlib.quiesce import fences
from conformance.guestlib.ways_out import WITHOUT_WAITING

BATCH: Final = 8
"""Sockets that lose their owner at once."""
_MESSAGE = b"x" * 700
_NOTHING = 1 << 30
_REDIRECTED = 2
"""Messages to redirect before the others are passed."""
_FENCES = threading.Lock()
"""Of two threads at a fence one would take what the other waits for."""

Owned = socket.socket | io.FileIO


class MapPair:
    """Two maps and their programs; a socket that is in both receives what is redirected as well as what is passed.

    Only making one is not for several threads at once.
    """

    def __init__(self, kind: str, map_type: str, *, parser: bool = False) -> None:
        self.kind, self._map_type = kind, map_type
        self._fixture = Fixture()
        self._maps: dict[str, int] = {}
        self.orphans: list[tuple[Owned, Owned]] = []
        """Sockets whose owner is going to be killed."""
        with ExitStack() as unfinished:
            unfinished.callback(self.close)
            self._state = State(self._fixture)
            for each in ("source", "targets"):
                self._maps[each] = syscall.create_map(syscall.MAP_TYPES[map_type], 4, 4, BATCH)
            self.verdict = self._state.load("skb", map_type, self.targets)
            if parser:
                syscall.attach(self.source, self._fixture.load("sk_skb_parser", {}), "sk_skb_stream_parser")
            name = fixture.attach(self.source, self.verdict, "sk_skb_stream_verdict" if parser else "sk_skb_verdict")
            self.attach_type = syscall.ATTACH_TYPES[name]
            if sockets.is_tcp(kind):
                syscall.attach(self.source, self._state.load("msg", map_type, self.targets), "sk_msg_verdict")
            unfinished.pop_all()

    @cached_property
    def spare(self) -> int:
        """A program that does what the attached verdict does; few ways need it, and of several threads only one."""
        return self._state.load("skb", self._map_type, self.targets)

    @property
    def source(self) -> int:
        """The map that has the programs; once it is closed, a descriptor that nothing has."""
        return self._maps.get("source", _NOTHING)

    @property
    def targets(self) -> int:
        """The map that is redirected to; once it is closed, a descriptor that nothing has."""
        return self._maps.get("targets", _NOTHING)

    def enter(self, ours: socket.socket, key: int = 0, target: socket.socket | None = None) -> None:
        """Insert a socket, and a target in its place unless it is that, too.

        Of what it gets then, some is redirected to the target's local end and the rest passed.
        """
        insert(self.source, ours, key)
        insert(self.targets, target or ours, key)
        self.order(syscall.F_INGRESS, _REDIRECTED * len(_MESSAGE), key)

    def order(self, flags: int, budget: int, key: int = 0) -> None:
        """Have so many bytes redirected, and the others passed."""
        with suppress(TypeError, ValueError):
            # Closed by another thread.
            self._state.order(key, flags, budget)

    def attach(self, program: int) -> None:
        """Put a verdict in the place of the attached one."""
        links.attach(self.source, program, self.attach_type)

    def drop(self, name: str) -> None:
        """Close the descriptor of one of the maps."""
        # One step, so that of several threads only one closes it.
        descriptor = self._maps.pop(name, -1)
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Close maps, then programs, whatever is in them."""
        self.drop("source")
        self.drop("targets")
        self._fixture.close()
        for each in self.orphans:
            end(self.kind, *each)


def insert(target: int, what: socket.socket, key: int = 0) -> None:
    """Insert a socket into one of the maps."""
    # By `maps`, which several threads may use at once.
    maps.update(target, struct.pack("=I", key), struct.pack("=i", what.fileno()))


def talk(ours: socket.socket, peer: socket.socket) -> None:
    """Send both ways, so that data is under way and waits."""
    for each in (peer, ours, peer, ours, peer):
        with suppress(OSError):
            each.send(_MESSAGE, WITHOUT_WAITING)


def end(kind: str, ours: Owned, peer: Owned) -> None:
    """Close what is still open of a pair, the second when it has heard of the first.

    Two vsock sockets that are closed at once, with data unread, wait 8 s for each other.
    """
    for each in (ours, peer):
        if sockets.is_vsock(kind):
            with _FENCES:
                fences().vsock()
        each.close()


class Member(ways_out.Member):
    """A socket that is in both maps."""

    def __init__(self, pair: MapPair, ours: socket.socket, peer: socket.socket) -> None:
        self.pair, self.kind, self.end, self.peer = pair, pair.kind, ours, peer
        self._links: list[int] = []
        self._strangers: list[tuple[socket.socket, socket.socket]] = []

    def leave(self, way: str) -> None:
        """Go one of `WAYS`, and leave the maps to the next who comes, unless the way is of `ENDS_MAPS`."""
        name = WAYS[way]
        try:
            if name == "link":
                self._link()
            ways_out.WAYS[name](self)
            if name in _STAYS_OPEN:
                self.meanwhile()
        finally:
            self._restore(name)
            if way in ENDS_MAPS:
                self.pair.close()

    def _link(self) -> None:
        """Have a link hold the program."""
        self.delete()
        self.detach()
        self._links.append(links.create(self.pair.source, self.pair.verdict, self.pair.attach_type))
        self.pair.enter(self.end)
        self.meanwhile()

    def _restore(self, name: str) -> None:
        self.drop_links()
        if name in ("detach", "link", "swap"):
            self.pair.attach(self.pair.verdict)
        while self._strangers:
            another = self._strangers.pop()
            talk(*another)
            end(self.kind, *another)

    def meanwhile(self) -> None:
        """Have data under way."""
        talk(self.end, self.peer)

    def delete(self) -> None:
        """Delete what is in the maps."""
        for each in (self.pair.source, self.pair.targets):
            maps.delete(each, bytes(4))

    def put(self, one: socket.socket) -> None:
        """Insert a socket in the place of this one."""
        # EBUSY: this one has the program already.
        with suppress(OSError) if one is self.end else nullcontext():
            self.pair.enter(one)
        insert(self.pair.targets, one)

    def stranger(self) -> socket.socket:
        """Make another pair, closed when data has passed through it."""
        self._strangers.append(sockets.pair(self.kind))
        return self._strangers[-1][0]

    def let_go(self) -> None:
        """Close the maps, then their programs."""
        self.pair.close()

    def drop_home(self) -> None:
        """Leave the map to the program that redirects to it."""
        self.pair.drop("targets")

    def pin(self, folder: str) -> None:
        """Leave nothing of the maps but names."""
        for name in ("source", "targets"):
            maps.pin(getattr(self.pair, name), f"{folder}/{name}")
        self.pair.close()

    def detach(self) -> None:
        """Take the verdict away."""
        links.detach(self.pair.source, self.pair.verdict, self.pair.attach_type)

    def swap(self) -> None:
        """Put another verdict in its place."""
        self.pair.attach(self.pair.spare)

    def drop_links(self) -> None:
        """Close the link."""
        while self._links:
            os.close(self._links.pop())

    def kill_owner(self) -> None:
        """Kill one owner for many: it is a fork."""
        orphans = self.pair.orphans
        orphans.append((ways_out.duplicate(self.end), ways_out.duplicate(self.peer)))
        if len(orphans) < BATCH:
            return
        pid = os.fork()
        if not pid:
            try:
                signal.pause()
            finally:
                os._exit(1)
        for owned, _ in orphans:
            owned.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for each in orphans:
            end(self.kind, *each)
        orphans.clear()


WAYS: Final[Mapping[str, str]] = {
    **{way: way for way in ("close", "delete", "destroy", "disconnect", "replace", "shutdown")},
    "replace-by-itself": "itself",
    "peer-closes": "peer_close",
    "peer-resets": "peer_reset",
    "owner-killed": "killed",
    "last-duplicate": "duplicate",
    "in-flight": "in_flight",
    "in-flight-to-itself": "in_flight_to_itself",
    "namespace-destroyed": "namespace",
    "program-detached": "detach",
    "program-replaced": "swap",
    "link-destroyed": "link",
    "unpinned": "unpin",
    "destroyed-referenced": "held",
}
"""The ways that are gone over and over, by their names in cases."""
ENDS_MAPS: Final = frozenset({"destroy", "unpinned", "destroyed-referenced"})
"""The ways that leave no maps for another round."""
_STAYS_OPEN: Final = ("replace", "itself", "detach", "swap", "link", "held")
"""The ways after which data is sent through the socket that was in the maps."""
