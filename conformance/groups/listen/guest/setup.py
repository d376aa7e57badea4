# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one listener case: a listener, its map, and the sockets that accept(2) returns."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from bpf.guest import links
from bpf.guest.contexts import CONTEXTS
from conformance.guestlib import child, fixture, grace, procfs, sockets, states, traffic
from conformance.guestlib.answers import Steps, outcome
from conformance.guestlib.cgroups import cgroups_of
from conformance.guestlib.fixture import Counting, Fixture, Map, Orders
from conformance.guestlib.quiesce import fences, renew_fences
from conformance.guestlib.traffic import Messages

CHILD, LISTENER = 5, 11
"""Keys in the map. A sock_ops program inserts at the number of its callback: PASSIVE_ESTABLISHED and TCP_LISTEN."""
_ENTRIES: Final = 32
_CALLBACKS: Final = 1 << CHILD | 1 << LISTENER
_FASTOPEN_WITHOUT_COOKIES: Final = "1543"
"""net.ipv4.tcp_fastopen = 0x607: client and server, neither with a cookie, and every listener without setsockopt(2)."""
_GRACE: Final = 0.02
"""Seconds to look for missing data after the fences have passed."""
_PATIENCE: Final = 2.0
"""Seconds after which sent data must have arrived."""

_TYPES: Final = {
    "none": (),
    "msg": ("sk_msg_verdict",),
    "verdict": ("sk_skb_verdict",),
    "parser": ("sk_skb_stream_parser", "sk_skb_stream_verdict"),
}


class ListenSetup:
    """The listener, its map and programs, and its connections, which a fixture owns."""

    def __init__(self, params: Mapping[str, str], owned: Fixture, steps: Steps, *, mapped: bool = True) -> None:
        """Listen, and insert the listener unless this is a control."""
        self.fixture, self.steps, self.mapped = owned, steps, mapped
        self.kind, self.map_type, self.by = params["kind"], params["map"], params["by"]
        self.outside = params["listener"] == "outside"
        """Whether the listener is in no map."""
        self.map = Map(-1)
        """The listener's map; a control has none."""
        self.ends: dict[str, socket.socket] = {}
        """The sockets at which data can arrive."""
        self._programs: list[Counting] = []
        if mapped:
            self.map = owned.map(self.map_type, _ENTRIES)
            self._attach(params["program"])
        self._hook = self._hooked() if mapped and self.by == "sock_ops" else None
        with fixture.possible(steps):
            self.listener = self._enrolled() if self._hook else self._opened()
        self.cookie = sockets.cookie_of(self.listener)
        self.address = self.listener.getsockname()
        if self._hook:
            self._hook.give(port=self.address[1])
        if mapped and not self.outside:
            answer = self._hook.answer(LISTENER) if self._hook else self.map.insert(self.listener, LISTENER)
            steps["listener"] = answer

    def _attach(self, program_of_map: str) -> None:
        for attach_type in _TYPES[program_of_map]:
            counting = fixture.counting(attach_type, "first")
            fixture.attach(self.map, counting.descriptor, attach_type)
            self._programs.append(counting)

    def _opened(self) -> socket.socket:
        listener = self.fixture.own(sockets.bound(self.kind))
        listener.listen(8)
        return listener

    def _hooked(self) -> Orders:
        """Attach a sock_ops program that inserts the listeners of the child process's cgroup, and their children."""
        self._owner = child.for_case(self.fixture)
        program = f"sock_ops_enrol_{self.map_type.removeprefix('sock')}"
        hook = Orders(self.fixture, program, "sock_ops", {"enrolled": self.map})
        # Only the listener of this cgroup has no remote port.
        hook.give(callbacks=1 << CHILD if self.outside else _CALLBACKS, spread=1)
        cgroup = self.fixture.keep(os.open(cgroups_of(self._owner)["inner"], os.O_RDONLY | os.O_DIRECTORY))
        number = CONTEXTS["sock_ops"].attach_type
        links.attach(cgroup, hook.program, number)
        self.fixture.callback(links.detach, cgroup, hook.program, number)
        return hook

    def _enrolled(self) -> socket.socket:
        """Have the child process call listen(2), and receive the listener from it."""
        self._owner.own("listen", self.kind)
        self._owner.command("hand_over")
        listener = self.fixture.own(socket.socket(fileno=self._owner.take()))
        self._owner.close()
        return listener

    def connect(self, early: bytes = b"", *, fastopen: bool = False) -> None:
        """Connect to the listener, and send `early`, with the SYN for `fastopen`; return when it has arrived."""
        peer = self.fixture.own(sockets.fresh(self.kind))
        if fastopen:
            self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 8)
            with procfs.setting(states.FASTOPEN, _FASTOPEN_WITHOUT_COOKIES):
                peer.sendto(early, states.MSG_FASTOPEN, self.address)
        else:
            peer.connect(self.address)
            if early:
                peer.send(early)
        self.peer = self.ends["peer"] = sockets.tune(peer, self.kind)
        self.settle()

    def accept(self) -> str:
        """Take a connection from the listener without blocking: `"ok"` or the errno."""
        self.listener.setblocking(False)
        found = outcome(self.listener.accept)
        if isinstance(found, str):
            return found
        self.child = self.ends["child"] = sockets.tune(self.fixture.own(found[0]), self.kind)
        self.child.setblocking(True)
        return "ok"

    def delete_listener(self) -> None:
        """Delete the listener from its map, if it is in one."""
        if self.mapped:
            self.map.delete(LISTENER)

    def enrol(self, child_is: str) -> None:
        """Insert the child, unless it stays `apart` or a sock_ops program has inserted it."""
        target = self.fixture.map(self.map_type, _ENTRIES) if child_is == "plain" else self.map
        if child_is != "apart":
            self.steps["insert"] = self._hook.answer(CHILD) if self._hook else target.insert(self.child, CHILD)
            self.steps["lookup"] = target.whose(CHILD, self.child)

    def runs(self) -> int:
        """Return how often the map's program has run; of parser and verdict, the verdict."""
        return self._programs[-1].runs() if self._programs else 0

    def settle(self) -> None:
        """Wait until data in flight has arrived; TimeoutError if a fence does not return."""
        if not fences().backlog():
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")

    def collect(self, parts: Mapping[str, bytes]) -> traffic.Parts:
        """Read from both ends until all parts have arrived, or `_GRACE` has passed without them."""
        drains: dict[str, Callable[[], Messages]] = {
            name: partial(traffic.take_all, end, stream=True) for name, end in self.ends.items()
        }
        found = traffic.Parts(parts, drains)

        def look() -> None:
            for name, drain in drains.items():
                traffic.add(found.messages[name], drain())

        limit = min(_GRACE, grace.limit())
        rest = traffic.settle(look, found.missing, lambda: limit, _PATIENCE, vsock=False)
        if rest.waited:
            grace.gave_up(rest.waited, limit)
        if not rest.arrived:
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")
        return found


class Wakeups:
    """Edge-triggered epoll of one socket: it reports the socket when the socket's callbacks wake its waiters."""

    def __init__(self, owned: Fixture, end: socket.socket, events: int) -> None:
        self._epoll = owned.enter_context(select.epoll())
        self._epoll.register(end, events | select.EPOLLET)
        # epoll reports once the state that the socket has at registration.
        self._epoll.poll(0)

    def came(self) -> str:
        """Say whether the socket has woken its waiters since the last call."""
        return "yes" if self._epoll.poll(0) else "no"
