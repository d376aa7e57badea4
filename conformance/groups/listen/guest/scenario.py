# SPDX-License-Identifier: GPL-2.0-only
"""Connect to a listener in a map, accept the connection, and send in both directions.

The Observation is `{"steps": {name: answer}, "control": {name: answer}}`. The control is the same scenario in the same
clone, without a map. A process runs each control once and remembers its answers.

- `listener`, `insert`: `"ok"`, or the errno of the insertion of the listener and of the child;
- `lookup`: the socket whose cookie the map has at the child's key;
- `ready`: whether edge-triggered epoll reports the listener when a connection is made;
- `accept`: `"ok"`, or the errno of an accept(2) that does not block;
- `entry`: the socket whose cookie the map has at the listener's key, after accept(2) and after the listener has left;
- `poll`: whether poll(2) reports the data that arrived before accept(2);
- `early`, `receive`, `send`: the socket at which data arrives: data for the child before accept(2), data for the child
  after accept(2), and data that the child sends;
- `woken`, `room`: whether edge-triggered epoll reports the child when data arrives, and when its send buffer grows;
- `runs`: whether the map's program ran on data that the child sends (SK_MSG) or receives;
- `peer-reads`: the results of recv(2) on the peer of a child that was never accepted, after the listener is closed;
- `child`: the socket whose cookie the map has at the key of that child;
- `connects`, `children`: whether accept(2) returned each of many connections, and whether each child received and sent.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Mapping
from typing import Final

from conformance.groups.listen.guest.setup import CHILD, LISTENER, ListenSetup, Wakeups
from conformance.guestlib import sockets, traffic
from conformance.guestlib.answers import Steps, outcome, wait_until
from conformance.guestlib.fixture import Fixture, scenario

_CONNECTIONS: Final = 40
"""Connections of one case during which a thread inserts and deletes their listener."""
_PATIENCE: Final = 1.0
"""Seconds in which accept(2) must return a connection."""
_WIDE: Final = 1 << 17
"""Bytes of a send buffer that is larger than the initial one of a TCP socket."""

_known: Final[dict[tuple[str, ...], Steps]] = {}
"""The answers of each control of this process."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case, and its control if the listener could be inserted."""
    seen = _in_map(params)
    return {**seen, "control": _control(params)} if seen["steps"].get("listener", "ok") == "ok" else seen


def _control(params: Mapping[str, str]) -> Steps:
    """Return the answers of the control of a case; this process runs each control once."""
    closed = "closed" if params["listener"] == "closed" else "kept"
    key = params["what"], closed, params["data"], params["kind"]
    if key not in _known:
        _known[key] = _in_no_map({**params, "by": "syscall", "child": "apart", "listener": closed})["steps"]
    return _known[key]


@scenario
def _in_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    setup = ListenSetup(params, owned, steps)
    if steps.get("listener", "ok") == "ok":
        _ASKED[params["what"]](setup, params)


@scenario
def _in_no_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    _ASKED[params["what"]](ListenSetup(params, owned, steps, mapped=False), params)


def _child(setup: ListenSetup, params: Mapping[str, str]) -> None:
    """Accept a connection, and send to and from the child."""
    steps, data, listener = setup.steps, params["data"], params["listener"]
    early = b"" if data == "late" else traffic.payload()
    waiting = Wakeups(setup.fixture, setup.listener, select.EPOLLIN)
    setup.connect(early, fastopen=data == "fastopen")
    steps["ready"] = waiting.came()
    if listener == "deleted_early":
        setup.delete_listener()
    steps["accept"] = setup.accept()
    if steps["accept"] != "ok":
        return
    if listener == "deleted":
        setup.delete_listener()
    elif listener == "closed":
        setup.listener.close()
    if setup.mapped:
        steps["entry"] = setup.map.whose(LISTENER, setup.cookie)
        setup.enrol(params["child"])
    if early:
        poll = select.poll()
        poll.register(setup.child, select.POLLIN)
        steps["poll"] = "in" if poll.poll(0) else "nothing"
        steps["early"] = setup.collect({"early": early}).place("early")
    _use(setup, counted=params["program"] != "none" and params["child"] == "inserted")


def _use(setup: ListenSetup, *, counted: bool) -> None:
    """Send in both directions, and ask whether epoll reports the child."""
    steps, before = setup.steps, setup.runs()
    waiting = Wakeups(setup.fixture, setup.child, select.EPOLLIN)
    received, sent = traffic.payload(), traffic.payload()
    setup.peer.send(received)
    setup.settle()
    steps["woken"] = waiting.came()
    steps["receive"] = setup.collect({"received": received}).place("received")
    answer = traffic.send(setup.child, sent)
    steps["send"] = setup.collect({"sent": sent}).place("sent") if answer == "ok" else answer
    if counted and setup.mapped:
        steps["runs"] = "yes" if setup.runs() > before else "no"
    # setsockopt(SO_SNDBUF) calls sk_write_space(), as the kernel does when an acknowledgement makes room.
    waiting = Wakeups(setup.fixture, setup.child, select.EPOLLOUT)
    setup.child.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WIDE)
    steps["room"] = waiting.came()


def _orphan(setup: ListenSetup, params: Mapping[str, str]) -> None:
    """Close the listener of a connection that was never accepted."""
    steps = setup.steps
    setup.connect(traffic.payload() if params["data"] == "early" else b"")
    if params["by"] == "sock_ops":
        steps["insert"] = "ok" if isinstance(setup.map.cookie(CHILD), bytes) else "no"
    setup.listener.close()
    setup.settle()
    found = traffic.take_all(setup.peer, stream=True)
    steps["peer-reads"] = ", ".join(each if isinstance(each, str) else f"{len(each)} bytes" for each in found)
    if setup.mapped:
        steps["entry"] = setup.map.whose(LISTENER, setup.cookie)
    if params["by"] == "sock_ops":
        steps["child"] = setup.map.whose(CHILD, setup.cookie)


def _churn(setup: ListenSetup, params: Mapping[str, str]) -> None:
    """Connect and accept while another thread inserts and deletes the listener."""
    ended = threading.Event()

    def insert_and_delete() -> None:
        while not ended.is_set():
            setup.map.delete(LISTENER)
            setup.map.insert(setup.listener, LISTENER)

    thread = threading.Thread(target=insert_and_delete)
    if setup.mapped:
        thread.start()
    try:
        pairs = [_connected(setup) for _ in range(_CONNECTIONS)]
    finally:
        ended.set()
        if setup.mapped:
            thread.join()
    made = [pair for pair in pairs if pair is not None]
    setup.steps["connects"] = "all" if len(made) == _CONNECTIONS else f"{len(made)} of {_CONNECTIONS}"
    parts = [(peer, child, traffic.payload()) for peer, child in made]
    for peer, child, data in parts:
        traffic.send(peer, data)
        traffic.send(child, data)
    setup.settle()
    lost = [
        name
        for peer, child, data in parts
        for name, end in (("child", child), ("peer", peer))
        if outcome(end.recv, traffic.ROOM, socket.MSG_DONTWAIT) != data
    ]
    setup.steps["children"] = "all" if not lost else f"some lost: {', '.join(sorted(set(lost)))}"


def _connected(setup: ListenSetup) -> tuple[socket.socket, socket.socket] | None:
    """Connect and accept; the last packet of the handshake may be on its way when connect(2) returns."""
    peer = setup.fixture.own(sockets.fresh(setup.kind))
    peer.connect(setup.address)
    accepted = wait_until(lambda: setup.accept() == "ok", _PATIENCE, os.sched_yield)
    return (sockets.tune(peer, setup.kind), setup.child) if accepted else None


_ASKED: Final = {"child": _child, "orphan": _orphan, "churn": _churn}
