# SPDX-License-Identifier: GPL-2.0-only
"""Enrol TCP sockets of a cgroup by a sock_ops program while their owner opens them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from bpf.guest import hooks, links, maps
from bpf.guest.contexts import CONTEXTS
from conformance.groups.enrol.guest.setup import SHORT_GRACE, EnrolSetup
from conformance.guestlib import procfs, sockets, states
from conformance.guestlib.answers import Steps, attempt, by_name, error_name, wait_until
from conformance.guestlib.cgroups import cgroups_of
from conformance.guestlib.fixture import Fixture, Map, Orders

CALLBACKS: Final = {
    "timeout-init": 1, "rwnd-init": 2, "tcp-connect": 3, "active-established": 4, "passive-established": 5,
    "needs-ecn": 6, "base-rtt": 7, "rto": 8, "retrans": 9, "state": 10, "tcp-listen": 11, "rtt": 12, "parse-hdr": 13,
    "hdr-opt-len": 14, "write-hdr": 15,
}  # fmt: skip
"""Number of each callback, as in enum of BPF_SOCK_OPS_*_CB."""
_ACTIVE, _PASSIVE = CALLBACKS["active-established"], CALLBACKS["passive-established"]
_ESTABLISHED = 1 << _ACTIVE | 1 << _PASSIVE
_EVERY_FLAG = 0x7F
"""BPF_SOCK_OPS_ALL_CB_FLAGS of 5.10."""
_TCP_DEFER_ACCEPT = 9
_FASTOPEN_WITHOUT_COOKIES = "1543"
"""Client, server, both without cookies, and every listener without asking: 0x607."""


class SockOpsSetup(EnrolSetup):
    """The setup for a child in a cgroup, and the listener for its connection."""

    def __init__(self, params: Mapping[str, str], owned: Fixture, steps: Steps) -> None:
        super().__init__(params, owned, steps)
        self.active = params["side"] == "active"
        self.owner = self.make_child()
        # A socket belongs to the cgroup in which it was created, so the child enters its cgroup first.
        self._cgroups = cgroups_of(self.owner)
        self._listener = owned.enter_context(sockets.bound(self.kind))
        if self.active:
            self._listener.listen(8)
            self.address = self._listener.getsockname()

    def listen(self) -> None:
        """Open the listener, if it is the owner's."""
        if not self.active:
            self.address = self.owner.own("listen", self.kind)

    def hook(self, where: str, enrolled: Map, how: int = 0, step: str = "", **orders: int) -> Orders:
        """Attach a program to one of the cgroups; the step has the result."""
        program = f"sock_ops_enrol_{self.map_type.removeprefix('sock')}"
        hook = Orders(self.fixture, program, "sock_ops", {"enrolled": enrolled})
        hook.give(**{"port": self.address[1], "callbacks": _ESTABLISHED, **orders})
        cgroup = self.fixture.keep(os.open(self._cgroups[where], os.O_RDONLY | os.O_DIRECTORY))
        number = CONTEXTS["sock_ops"].attach_type
        answer = self.steps[step or f"attach-{where}"] = attempt(links.attach, cgroup, hook.program, number, how)
        if answer == "ok":
            self.fixture.callback(links.detach, cgroup, hook.program, number)
        return hook

    def establish(self, where: str = "inner", **orders: int) -> None:
        """Connect under a program, and record whether both sockets were inserted."""
        self.listen()
        hook = self.hook(where, self.map, 0, "", **orders)
        self.connect()
        self.enrolled(hook)

    def connect(self) -> None:
        """Establish the connection; in the passive case it is not accepted yet."""
        if self.active:
            self.owner.own("connect", self.kind, self.address)
            self.introduce(self.owner, sockets.tune(self._listener.accept()[0], self.kind))
        else:
            peer = sockets.fresh(self.kind)
            peer.connect(self.address)
            self.face(None, sockets.tune(peer, self.kind))
        self.settle()

    def accept(self) -> str:
        """Let the owner accept the connection; return whose socket was in the map before that."""
        early = self.map.cookie()
        if not self.active:
            self.owner.own("accept")
            self.cookie = self.owner.cookie
            self.owned_by(self.owner)
        return early if isinstance(early, str) else "cookie" if early == self.cookie else "another cookie"

    def enrolled(self, hook: Orders, suffix: str = "") -> None:
        """Record whether the owner's socket was inserted, and its peer, which is outside of the cgroup."""
        ours, others = (_ACTIVE, _PASSIVE) if self.active else (_PASSIVE, _ACTIVE)
        self.steps[f"enrol{suffix}"] = hook.answer(ours)
        self.steps[f"enrol-peer{suffix}"] = hook.answer(others)


def _plain(hooked: SockOpsSetup, where: str = "inner") -> None:
    """Enrol, and prove it before and after the connection is accepted."""
    hooked.establish(where)
    early = hooked.accept()
    hooked.look()
    if not hooked.active:
        hooked.steps["lookup-unaccepted"] = early
    hooked.prove()
    hooked.owner.close()
    hooked.look("-closed")


def _late(hooked: SockOpsSetup) -> None:
    """Attach when the connection is established: nothing is enrolled any more."""
    hooked.listen()
    hooked.connect()
    hook = hooked.hook("inner", hooked.map, callbacks=-1 & 0xFFFF)
    hooked.accept()
    hooked.prove()
    hooked.enrolled(hook)
    hooked.look()


def _enrol_twice(hooked: SockOpsSetup, places: Mapping[str, str], how: int) -> None:
    """Attach two programs at places of the cgroups, each with its own map, and look the socket up in both."""
    enrolled = dict(zip(sorted(places), (hooked.map, hooked.new_map()), strict=True))
    hooked.listen()
    programs = {name: hooked.hook(place, enrolled[name], how, f"attach-{name}") for name, place in places.items()}
    hooked.connect()
    for name, program in programs.items():
        hooked.enrolled(program, f"-{name}")
    hooked.accept()
    for name, target in enrolled.items():
        hooked.look(f"-{name}", target=target)
    hooked.prove()


def _occupied(hooked: SockOpsSetup) -> None:
    """Enrol under a key that is taken, with BPF_NOEXIST."""
    hooked.steps["insert"] = hooked.map.insert(hooked.fixture.pair(hooked.kind)[0])
    hooked.establish(flags=maps.NOEXIST)
    hooked.accept()
    hooked.look()
    hooked.use()


def _early(hooked: SockOpsSetup) -> None:
    """Have data arrive before accept(2): after the handshake, with its last packet, or with the SYN."""
    hooked.listen()
    if hooked.params["data"] == "deferred":
        hooked.owner.command("apply", "setsockopt", socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, 1)
    hook = hooked.hook("inner", hooked.map)
    if hooked.params["data"] == "fastopen":
        peer = sockets.fresh(hooked.kind)
        hooked.face(None, peer)
        with procfs.setting(states.FASTOPEN, _FASTOPEN_WITHOUT_COOKIES):
            hooked.queue_data(lambda data: peer.sendto(data, states.MSG_FASTOPEN, hooked.address))
    else:
        hooked.connect()
        hooked.queue_data()
    hooked.enrolled(hook)
    hooked.steps["lookup-unaccepted"] = hooked.accept()
    if hooked.role == "target":
        hooked.steps["receive-queued"] = hooked.place_of_data()
    hooked.prove()


def _unaccepted(hooked: SockOpsSetup) -> None:
    """Redirect to the enrolled socket before accept(2), when it has no file yet."""
    hooked.establish()
    hooked.grace = SHORT_GRACE
    hooked.steps["redirect-unaccepted"] = hooked.redirected()
    hooked.accept()
    hooked.look()
    hooked.steps["error"] = error_name(hooked.owner.command("apply", "getsockopt", socket.SOL_SOCKET, socket.SO_ERROR))
    hooked.steps["redirect"] = hooked.redirected()
    hooked.use()


def _callbacks(hooked: SockOpsSetup) -> None:
    """Try to enrol at every callback, each under its own key."""
    every = hooked.new_map(entries=32)
    if not hooked.active:
        # Attach before listen(2), so that the program sees it; nothing else opens sockets in this cgroup.
        hooked.address = ("", 0)
    hook = hooked.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG)
    hooked.listen()
    hook.give(port=hooked.address[1])
    hooked.connect()
    hooked.accept()
    hooked.use()
    # Timers may fire on a slow machine, and TCP's fast path calls no header callback.
    chance = {"rto", "retrans"} if hooked.active else {"rto", "retrans", "parse-hdr"}
    for name in (each for each in CALLBACKS if each not in chance):
        hooked.steps[name] = hook.answer(CALLBACKS[name])
    found = (name for name, number in CALLBACKS.items() if isinstance(every.cookie(number), bytes))
    hooked.steps["enrolled"] = ", ".join(found)


def _timers(hooked: SockOpsSetup) -> None:
    """Try to enrol when the retransmission timer of an unanswered connection fires."""
    every = hooked.new_map(entries=32)
    # A listener with a full backlog ignores a further connection.
    listener = hooked.fixture.enter_context(sockets.bound(hooked.kind))
    listener.listen(0)
    hooked.address = listener.getsockname()
    hooked.fixture.enter_context(sockets.fresh(hooked.kind)).connect(hooked.address)
    hook = hooked.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG, timeout=1)
    hooked.owner.own("connect", hooked.kind, hooked.address, False)
    names = ("rto", "retrans")
    wait_until(lambda: all(hook.calls(CALLBACKS[name]) for name in names), 2.0, hooked.settle)
    for name in names:
        hooked.steps[name] = hook.answer(CALLBACKS[name])
        hooked.look(f"-{name}", CALLBACKS[name], every)


VARIANTS: Final[Mapping[str, Callable[[SockOpsSetup], None]]] = {
    **by_name(_plain, _late, _occupied, _early, _unaccepted, _callbacks, _timers),
    "nested": lambda hooked: _plain(hooked, "outer"),
    "outside": lambda hooked: _plain(hooked, "beside"),
    # Attached to the cgroup and to the cgroup around it, both with the same flags; then both to one cgroup.
    **{
        name: partial(_enrol_twice, places={"outer": "outer", "inner": "inner"}, how=how)
        for name, how in (("multi", hooks.ALLOW_MULTI), ("override", hooks.ALLOW_OVERRIDE), ("exclusive", 0))
    },
    "twice": partial(_enrol_twice, places={"first": "inner", "second": "inner"}, how=hooks.ALLOW_MULTI),
}
