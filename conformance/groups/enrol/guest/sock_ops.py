# SPDX-License-Identifier: GPL-2.0-only
"""Enrol TCP sockets of a cgroup by a sock_ops program, while their owner opens them and notices nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bpf.guest import hooks, links
from bpf.guest.contexts import CONTEXTS
from conformance.groups.enrol.guest.setup import SHORT_GRACE, EnrolSetup
from conformance.guestlib import procfs, sockets
from conformance.guestlib.answers import Steps, attempt, comes_true, error_name
from conformance.guestlib.cgroups import cgroups_of
from conformance.guestlib.fixture import Map
from conformance.guestlib.orders import Orders

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
_NOEXIST = 1
_TCP_DEFER_ACCEPT = 9
_MSG_FASTOPEN = 0x20000000
_FASTOPEN = "/proc/sys/net/ipv4/tcp_fastopen"
_FASTOPEN_WITHOUT_COOKIES = "1543"
"""Client, server, both without cookies, and every listener without asking: 0x607."""


class SockOpsChild:
    """A child in a cgroup, and where it meets its peer."""

    def __init__(self, setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
        self.setup, self.steps = setup, steps
        self.kind, self.map_type = params["kind"], params["map"]
        self.active = params["side"] == "active"
        self.owner = setup.make_child()
        # A socket belongs to the cgroup in which it was made: the child enters its own before it opens any.
        self._cgroups = cgroups_of(self.owner)
        self._listener = setup.fixture.enter_context(sockets.bound(self.kind))
        if self.active:
            self._listener.listen(8)
            self.address = self._listener.getsockname()

    def listen(self) -> None:
        """Open the listener, if it is the owner's."""
        if not self.active:
            self.address = self.owner.own("listen", self.kind)

    def hook(self, where: str, enrolled: Map, flags: int = 0, step: str = "", **orders: int) -> Orders:
        """Attach a program to one of the cgroups; the step says how that went."""
        hook = Orders(f"sock_ops_enrol_{self.map_type.removeprefix('sock')}", "sock_ops", {"enrolled": enrolled})
        self.setup.fixture.callback(hook.close)
        hook.give(**{"port": self.address[1], "callbacks": _ESTABLISHED, **orders})
        cgroup = os.open(self._cgroups[where], os.O_RDONLY | os.O_DIRECTORY)
        self.setup.fixture.keep(cgroup)
        number = CONTEXTS["sock_ops"].attach_type
        answer = self.steps[step or f"attach-{where}"] = attempt(links.attach, cgroup, hook.program, number, flags)
        if answer == "ok":
            self.setup.fixture.callback(links.detach, cgroup, hook.program, number)
        return hook

    def connect(self) -> None:
        """Establish the connection; in the passive case it is not accepted yet."""
        if self.active:
            self.owner.own("connect", self.kind, self.address)
            self.setup.introduce(self.owner, sockets.tune(self._listener.accept()[0], self.kind))
        else:
            peer = sockets.fresh(self.kind)
            peer.connect(self.address)
            self.setup.face(None, sockets.tune(peer, self.kind))
        self.setup.settle()

    def accept(self) -> str:
        """Have the owner accept; say whose socket was in the map before."""
        early = self.setup.map.cookie()
        if not self.active:
            self.owner.own("accept")
            self.setup.cookie = self.owner.cookie
            self.setup.accept(self.owner)
        return early if isinstance(early, str) else "cookie" if early == self.setup.cookie else "another cookie"

    def enrolled(self, hook: Orders, suffix: str = "") -> None:
        """Say what became of the owner's socket, and of its peer, which is outside of the cgroup."""
        ours, others = (_ACTIVE, _PASSIVE) if self.active else (_PASSIVE, _ACTIVE)
        self.steps[f"enrol{suffix}"] = hook.answer(ours)
        self.steps[f"enrol-peer{suffix}"] = hook.answer(others)


def _plain(hooked: SockOpsChild, params: Mapping[str, str], where: str = "inner") -> None:
    """Enrol, and prove it before and after the connection is accepted."""
    setup, steps = hooked.setup, hooked.steps
    hooked.listen()
    hook = hooked.hook(where, setup.map)
    hooked.connect()
    hooked.enrolled(hook)
    early = hooked.accept()
    steps["lookup"] = setup.looked_up()
    if not hooked.active:
        steps["lookup-unaccepted"] = early
    setup.prove(steps)
    hooked.owner.close()
    steps["lookup-closed"] = setup.looked_up()


def _late(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Attach when the connection is established: nothing is enrolled any more."""
    setup, steps = hooked.setup, hooked.steps
    hooked.listen()
    hooked.connect()
    hook = hooked.hook("inner", setup.map, callbacks=-1 & 0xFFFF)
    hooked.accept()
    setup.prove(steps)
    hooked.enrolled(hook)
    steps["lookup"] = setup.looked_up()


def _both(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Attach one program to the cgroup and one to the cgroup around it, both with the flags that `variant` says."""
    flags = {"multi": hooks.ALLOW_MULTI, "override": hooks.ALLOW_OVERRIDE, "exclusive": 0}[params["variant"]]
    second = hooked.setup.new_map()
    hooked.listen()
    outer = hooked.hook("outer", second, flags)
    inner = hooked.hook("inner", hooked.setup.map, flags)
    _enrol_twice(hooked, {"inner": inner, "outer": outer}, [hooked.setup.map, second])


def _twice(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Attach two programs to one cgroup."""
    second = hooked.setup.new_map()
    hooked.listen()
    first = hooked.hook("inner", hooked.setup.map, hooks.ALLOW_MULTI, "attach-first")
    other = hooked.hook("inner", second, hooks.ALLOW_MULTI, "attach-second")
    _enrol_twice(hooked, {"first": first, "second": other}, [hooked.setup.map, second])


def _enrol_twice(hooked: SockOpsChild, attached: Mapping[str, Orders], maps: Sequence[Map]) -> None:
    """Connect under two programs, each with a map of its own, and see what became of the socket in both."""
    hooked.connect()
    for name, hook in attached.items():
        hooked.enrolled(hook, f"-{name}")
    hooked.accept()
    for name, descriptor in zip(attached, maps, strict=True):
        hooked.steps[f"lookup-{name}"] = hooked.setup.looked_up(target=descriptor)
    hooked.setup.prove(hooked.steps)


def _occupied(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Enrol under a key that is taken, with BPF_NOEXIST."""
    setup, steps = hooked.setup, hooked.steps
    steps["insert"] = setup.map.insert(setup.fixture.pair(hooked.kind)[0])
    hooked.listen()
    hook = hooked.hook("inner", setup.map)
    hook.give(flags=_NOEXIST)
    hooked.connect()
    hooked.enrolled(hook)
    hooked.accept()
    steps["lookup"] = setup.looked_up()
    setup.use(steps)


def _early(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Have data arrive before the connection is accepted: after the handshake, with its end, with its beginning."""
    setup, steps = hooked.setup, hooked.steps
    hooked.listen()
    if params["data"] == "deferred":
        hooked.owner.command("apply", "setsockopt", socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, 1)
    hook = hooked.hook("inner", setup.map)
    if params["data"] == "fastopen":
        peer = sockets.fresh(hooked.kind)
        setup.face(None, peer)
        with procfs.setting(_FASTOPEN, _FASTOPEN_WITHOUT_COOKIES):
            setup.let_wait(lambda data: peer.sendto(data, _MSG_FASTOPEN, hooked.address))
    else:
        hooked.connect()
        setup.let_wait()
    hooked.enrolled(hook)
    steps["lookup-unaccepted"] = hooked.accept()
    if setup.role == "target":
        steps["receive-queued"] = setup.landed()
    setup.prove(steps)


def _unaccepted(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Redirect to the enrolled socket before it is accepted, when there is nothing yet to send through."""
    setup, steps = hooked.setup, hooked.steps
    hooked.listen()
    hook = hooked.hook("inner", setup.map)
    hooked.connect()
    hooked.enrolled(hook)
    setup.grace = SHORT_GRACE
    steps["redirect-unaccepted"] = setup.redirected()
    hooked.accept()
    steps["lookup"] = setup.looked_up()
    steps["error"] = error_name(hooked.owner.command("apply", "getsockopt", socket.SOL_SOCKET, socket.SO_ERROR))
    steps["redirect"] = setup.redirected()
    setup.use(steps)


def _callbacks(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Try to enrol at every callback there is, each under a key of its own."""
    setup, steps = hooked.setup, hooked.steps
    every = setup.new_map(entries=32)
    if hooked.active:
        hook = hooked.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG)
    else:
        # The program is to see the listener open; all that opens in the cgroup is what we say.
        hooked.address = ("", 0)
        hook = hooked.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG)
        hooked.listen()
        hook.give(port=hooked.address[1])
    hooked.connect()
    hooked.accept()
    setup.use(steps)
    # Timers may fire on a slow machine, and of what TCP receives in its fast path no header is parsed.
    chance = {"rto", "retrans"} if hooked.active else {"rto", "retrans", "parse-hdr"}
    for name in (each for each in CALLBACKS if each not in chance):
        steps[name] = hook.answer(CALLBACKS[name])
    steps["enrolled"] = ", ".join(name for name, number in CALLBACKS.items() if isinstance(every.cookie(number), bytes))


def _timers(hooked: SockOpsChild, params: Mapping[str, str]) -> None:
    """Try to enrol when the retransmission timer fires on a connection nobody answers."""
    setup, steps = hooked.setup, hooked.steps
    every = setup.new_map(entries=32)
    # A listener ignores a third that wants to connect, when as many wait as may.
    listener = setup.fixture.enter_context(sockets.bound(hooked.kind))
    listener.listen(0)
    hooked.address = listener.getsockname()
    setup.fixture.enter_context(sockets.fresh(hooked.kind)).connect(hooked.address)
    hook = hooked.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG, timeout=1)
    hooked.owner.own("begin_connect", hooked.kind, hooked.address)
    names = ("rto", "retrans")
    comes_true(lambda: all(hook.calls(CALLBACKS[name]) for name in names), 2.0, setup.settle)
    for name in names:
        steps[name] = hook.answer(CALLBACKS[name])
        steps[f"lookup-{name}"] = setup.looked_up(CALLBACKS[name], every)


VARIANTS: Final[Mapping[str, Callable[[SockOpsChild, Mapping[str, str]], None]]] = {
    "plain": _plain,
    "nested": lambda hooked, params: _plain(hooked, params, "outer"),
    "outside": lambda hooked, params: _plain(hooked, params, "beside"),
    "late": _late,
    "multi": _both,
    "override": _both,
    "exclusive": _both,
    "twice": _twice,
    "occupied": _occupied,
    "early": _early,
    "unaccepted": _unaccepted,
    "callbacks": _callbacks,
    "timers": _timers,
}


def run(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Enrol on the `side` and as `variant` says."""
    VARIANTS[params["variant"]](SockOpsChild(setup, params, steps), params)
