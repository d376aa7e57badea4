# SPDX-License-Identifier: GPL-2.0-only
"""Enrol TCP sockets of a cgroup by a sock_ops program, while their owner opens them and notices nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bpf.guest import hooks, links
from bpf.guest.contexts import CONTEXTS
from conformance.groups.enrol.guest.proof import SHORT_GRACE, Proof
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


class Scene:
    """A child in a cgroup, and where it meets its peer."""

    def __init__(self, proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
        self.proof, self.steps = proof, steps
        self.kind, self.map_type = params["kind"], params["map"]
        self.active = params["side"] == "active"
        self.owner = proof.make_child()
        # A socket belongs to the cgroup in which it was made: the child enters its own before it opens any.
        self._cgroups = cgroups_of(self.owner)
        self._listener = proof.fixture.enter_context(sockets.bound(self.kind))
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
        self.proof.fixture.callback(hook.close)
        hook.give(**{"port": self.address[1], "callbacks": _ESTABLISHED, **orders})
        cgroup = os.open(self._cgroups[where], os.O_RDONLY | os.O_DIRECTORY)
        self.proof.fixture.keep(cgroup)
        number = CONTEXTS["sock_ops"].attach_type
        answer = self.steps[step or f"attach-{where}"] = attempt(links.attach, cgroup, hook.program, number, flags)
        if answer == "ok":
            self.proof.fixture.callback(links.detach, cgroup, hook.program, number)
        return hook

    def connect(self) -> None:
        """Establish the connection; in the passive case it is not accepted yet."""
        if self.active:
            self.owner.own("connect", self.kind, self.address)
            self.proof.introduce(self.owner, sockets.tune(self._listener.accept()[0], self.kind))
        else:
            peer = sockets.fresh(self.kind)
            peer.connect(self.address)
            self.proof.face(None, sockets.tune(peer, self.kind))
        self.proof.settle()

    def accept(self) -> str:
        """Have the owner accept; say whose socket was in the map before."""
        early = self.proof.map.cookie()
        if not self.active:
            self.owner.own("accept")
            self.proof.cookie = self.owner.cookie
            self.proof.accept(self.owner)
        return early if isinstance(early, str) else "cookie" if early == self.proof.cookie else "another cookie"

    def enrolled(self, hook: Orders, suffix: str = "") -> None:
        """Say what became of the owner's socket, and of its peer, which is outside of the cgroup."""
        ours, others = (_ACTIVE, _PASSIVE) if self.active else (_PASSIVE, _ACTIVE)
        self.steps[f"enrol{suffix}"] = hook.answer(ours)
        self.steps[f"enrol-peer{suffix}"] = hook.answer(others)


def _plain(scene: Scene, params: Mapping[str, str], where: str = "inner") -> None:
    """Enrol, and prove it before and after the connection is accepted."""
    proof, steps = scene.proof, scene.steps
    scene.listen()
    hook = scene.hook(where, proof.map)
    scene.connect()
    scene.enrolled(hook)
    early = scene.accept()
    steps["lookup"] = proof.looked_up()
    if not scene.active:
        steps["lookup-unaccepted"] = early
    proof.prove(steps)
    scene.owner.close()
    steps["lookup-closed"] = proof.looked_up()


def _late(scene: Scene, params: Mapping[str, str]) -> None:
    """Attach when the connection is established: nothing is enrolled any more."""
    proof, steps = scene.proof, scene.steps
    scene.listen()
    scene.connect()
    hook = scene.hook("inner", proof.map, callbacks=-1 & 0xFFFF)
    scene.accept()
    proof.prove(steps)
    scene.enrolled(hook)
    steps["lookup"] = proof.looked_up()


def _both(scene: Scene, params: Mapping[str, str]) -> None:
    """Attach one program to the cgroup and one to the cgroup around it, both with the flags that `variant` says."""
    flags = {"multi": hooks.ALLOW_MULTI, "override": hooks.ALLOW_OVERRIDE, "exclusive": 0}[params["variant"]]
    second = scene.proof.new_map()
    scene.listen()
    outer = scene.hook("outer", second, flags)
    inner = scene.hook("inner", scene.proof.map, flags)
    _enrol_twice(scene, {"inner": inner, "outer": outer}, [scene.proof.map, second])


def _twice(scene: Scene, params: Mapping[str, str]) -> None:
    """Attach two programs to one cgroup."""
    second = scene.proof.new_map()
    scene.listen()
    first = scene.hook("inner", scene.proof.map, hooks.ALLOW_MULTI, "attach-first")
    other = scene.hook("inner", second, hooks.ALLOW_MULTI, "attach-second")
    _enrol_twice(scene, {"first": first, "second": other}, [scene.proof.map, second])


def _enrol_twice(scene: Scene, attached: Mapping[str, Orders], maps: Sequence[Map]) -> None:
    """Connect under two programs, each with a map of its own, and see what became of the socket in both."""
    scene.connect()
    for name, hook in attached.items():
        scene.enrolled(hook, f"-{name}")
    scene.accept()
    for name, descriptor in zip(attached, maps, strict=True):
        scene.steps[f"lookup-{name}"] = scene.proof.looked_up(target=descriptor)
    scene.proof.prove(scene.steps)


def _occupied(scene: Scene, params: Mapping[str, str]) -> None:
    """Enrol under a key that is taken, with BPF_NOEXIST."""
    proof, steps = scene.proof, scene.steps
    steps["insert"] = proof.map.insert(proof.fixture.pair(scene.kind)[0])
    scene.listen()
    hook = scene.hook("inner", proof.map)
    hook.give(flags=_NOEXIST)
    scene.connect()
    scene.enrolled(hook)
    scene.accept()
    steps["lookup"] = proof.looked_up()
    proof.use(steps)


def _early(scene: Scene, params: Mapping[str, str]) -> None:
    """Have data arrive before the connection is accepted: after the handshake, with its end, with its beginning."""
    proof, steps = scene.proof, scene.steps
    scene.listen()
    if params["data"] == "deferred":
        scene.owner.command("apply", "setsockopt", socket.IPPROTO_TCP, _TCP_DEFER_ACCEPT, 1)
    hook = scene.hook("inner", proof.map)
    if params["data"] == "fastopen":
        peer = sockets.fresh(scene.kind)
        proof.face(None, peer)
        with procfs.setting(_FASTOPEN, _FASTOPEN_WITHOUT_COOKIES):
            proof.let_wait(lambda data: peer.sendto(data, _MSG_FASTOPEN, scene.address))
    else:
        scene.connect()
        proof.let_wait()
    scene.enrolled(hook)
    steps["lookup-unaccepted"] = scene.accept()
    if proof.role == "target":
        steps["receive-queued"] = proof.landed()
    proof.prove(steps)


def _unaccepted(scene: Scene, params: Mapping[str, str]) -> None:
    """Redirect to the enrolled socket before it is accepted, when there is nothing yet to send through."""
    proof, steps = scene.proof, scene.steps
    scene.listen()
    hook = scene.hook("inner", proof.map)
    scene.connect()
    scene.enrolled(hook)
    proof.grace = SHORT_GRACE
    steps["redirect-unaccepted"] = proof.redirected()
    scene.accept()
    steps["lookup"] = proof.looked_up()
    steps["error"] = error_name(scene.owner.command("apply", "getsockopt", socket.SOL_SOCKET, socket.SO_ERROR))
    steps["redirect"] = proof.redirected()
    proof.use(steps)


def _callbacks(scene: Scene, params: Mapping[str, str]) -> None:
    """Try to enrol at every callback there is, each under a key of its own."""
    proof, steps = scene.proof, scene.steps
    every = proof.new_map(entries=32)
    if scene.active:
        hook = scene.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG)
    else:
        # The program is to see the listener open; all that opens in the cgroup is what we say.
        scene.address = ("", 0)
        hook = scene.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG)
        scene.listen()
        hook.give(port=scene.address[1])
    scene.connect()
    scene.accept()
    proof.use(steps)
    # Timers may fire on a slow machine, and of what TCP receives in its fast path no header is parsed.
    chance = {"rto", "retrans"} if scene.active else {"rto", "retrans", "parse-hdr"}
    for name in (each for each in CALLBACKS if each not in chance):
        steps[name] = hook.answer(CALLBACKS[name])
    steps["enrolled"] = ", ".join(name for name, number in CALLBACKS.items() if isinstance(every.cookie(number), bytes))


def _timers(scene: Scene, params: Mapping[str, str]) -> None:
    """Try to enrol when the retransmission timer fires on a connection nobody answers."""
    proof, steps = scene.proof, scene.steps
    every = proof.new_map(entries=32)
    # A listener ignores a third that wants to connect, when as many wait as may.
    listener = proof.fixture.enter_context(sockets.bound(scene.kind))
    listener.listen(0)
    scene.address = listener.getsockname()
    proof.fixture.enter_context(sockets.fresh(scene.kind)).connect(scene.address)
    hook = scene.hook("inner", every, callbacks=0xFFFF, spread=1, wanted=_EVERY_FLAG, timeout=1)
    scene.owner.own("begin_connect", scene.kind, scene.address)
    names = ("rto", "retrans")
    comes_true(lambda: all(hook.calls(CALLBACKS[name]) for name in names), 2.0, proof.settle)
    for name in names:
        steps[name] = hook.answer(CALLBACKS[name])
        steps[f"lookup-{name}"] = proof.looked_up(CALLBACKS[name], every)


VARIANTS: Final[Mapping[str, Callable[[Scene, Mapping[str, str]], None]]] = {
    "plain": _plain,
    "nested": lambda scene, params: _plain(scene, params, "outer"),
    "outside": lambda scene, params: _plain(scene, params, "beside"),
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


def run(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Enrol on the `side` and as `variant` says."""
    VARIANTS[params["variant"]](Scene(proof, params, steps), params)
