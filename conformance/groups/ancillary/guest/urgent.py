# SPDX-License-Identifier: GPL-2.0-only
"""Out-of-band data of UNIX streams and TCP, and of a UNIX stream whose data a program redirects."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from typing import Final

from bpf.guest import syscall
from conformance.groups.ancillary.guest.setup import PATIENCE, AncillarySetup
from conformance.guestlib import fixture, sockets, traffic
from conformance.guestlib.answers import Steps, outcome, wait_until
from conformance.guestlib.fixture import Fixture, State
from conformance.guestlib.quiesce import fences

_SIOCATMARK: Final = 0x8905
_ROOM: Final = 64


def _oob(end: socket.socket) -> str:
    """Return what recv(2) with MSG_OOB returns, or the errno."""
    return outcome(lambda: end.recv(_ROOM, socket.MSG_OOB | socket.MSG_DONTWAIT).decode() or "end")


def _next(end: socket.socket) -> str:
    """Return what recv(2) returns, or the errno."""
    return outcome(lambda: end.recv(_ROOM, socket.MSG_DONTWAIT).decode() or "end")


def oob(setup: AncillarySetup) -> None:
    """Send out of band over a UNIX stream, in a map and after the socket has left it."""
    steps, reader = setup.steps, setup.reader
    for suffix in ("", "-deleted"):
        steps[f"send{suffix}"] = outcome(lambda: str(setup.sender.send(b"ab", socket.MSG_OOB)))
        setup.settle()
        steps[f"oob{suffix}"] = _oob(reader)
        steps[f"data{suffix}"] = setup.rest().decode()
        setup.delete()


def urgent(setup: AncillarySetup) -> None:
    """Send urgent data over TCP."""
    _send_urgent(setup)
    if setup.mode in ("local", "egress"):
        found = setup.all_of(len(b"abcd")).decode()
        setup.steps["bytes"] = found or "none"
        return
    setup.steps["poll"] = _priority(setup.reader)
    setup.steps["oob"] = _oob(setup.reader)
    _to_the_mark(setup)


def urgent_inline(setup: AncillarySetup) -> None:
    """Send urgent data over TCP to a socket with SO_OOBINLINE."""
    setup.reader.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    _send_urgent(setup)
    setup.steps["poll"] = _priority(setup.reader)
    _to_the_mark(setup)


def _send_urgent(setup: AncillarySetup) -> None:
    for data, flags in ((b"ab", 0), (b"c", socket.MSG_OOB), (b"d", 0)):
        setup.sender.send(data, flags)
    setup.settle()


def _priority(end: socket.socket) -> str:
    poll = select.poll()
    poll.register(end, select.POLLPRI)
    return "urgent" if poll.poll(0) else "nothing urgent"


def _to_the_mark(setup: AncillarySetup) -> None:
    setup.steps["before"] = _next(setup.reader)
    setup.steps["mark"] = outcome(lambda: str(traffic.count(setup.reader, _SIOCATMARK)))
    setup.steps["behind"] = _next(setup.reader)


def redirect(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Send two bytes over a UNIX stream, the last out of band, as a cell of the kernel's test sockmap_redir does."""
    mode, map_type, kind = params["mode"], params["map"], params["kind"]
    with fixture.possible(steps):
        (ours, peer), (target, far) = owned.pair("unix_stream"), owned.pair(kind)
    source, targets = owned.map(map_type), owned.map(map_type)
    flags = syscall.F_INGRESS if mode.endswith("local") else 0
    state = State(owned, flags=flags)
    if mode.startswith("send"):
        syscall.attach(source, state.load("msg", map_type, targets), "sk_msg_verdict")
    else:
        fixture.attach(source, state.load("skb", map_type, targets))
    for step, map_, end in (("insert-in", source, ours), ("insert-out", targets, target)):
        steps[step] = map_.insert(end)
        if steps[step] != "ok":
            return
    sender, native = (ours, peer) if mode.startswith("send") else (peer, ours)
    steps["send"] = outcome(lambda: str(sender.send(b"ab", socket.MSG_OOB)))
    ends = {"native": native, "target": target, "far": far}
    if mode.startswith("send"):
        steps["oob"] = _oob(native)
    found = dict.fromkeys(ends, b"")

    def look() -> int:
        fences().round(vsock=sockets.is_vsock(kind))
        for name, end in ends.items():
            stream = sockets.connects("unix_stream" if name == "native" else kind)
            taken = traffic.take_all(end, stream=stream)
            found[name] += b"".join(each for each in taken if isinstance(each, bytes))
        return sum(map(len, found.values()))

    wait_until(lambda: look() or state.tallies()[2], PATIENCE)
    look()
    steps["data"] = ", ".join(f"{data.decode()} at {name}" for name, data in found.items() if data) or "nowhere"
    if mode.startswith("ingress"):
        # The errno depends on the kind: UNIX sockets in a map, UDP and VSOCK refuse MSG_OOB with different ones.
        answer = _oob(target if mode.endswith("local") else far)
        steps["oob"] = "nothing" if answer.startswith("E") else answer
