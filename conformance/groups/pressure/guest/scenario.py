# SPDX-License-Identifier: GPL-2.0-only
"""See what a map of sockets does when more comes than is read, when a target is dead, and when it is full.

A case asks one thing (`ask`) about a `kind` of socket and the `way` of the data. The Observation is
`{"steps": {...}, "control": {...}}`; the control is the same scenario on a plain connection. A process runs each
control once and remembers its answers.

- `held`: the sender sends until it is held or has sent `MOST` bytes: `"held"`, or `"never"`; `read` then says whether
  all of it arrived in order, and `send-then` and `read-then` whether the sender can go on;
- `charged`: whether receive memory is charged to the reader, while data waits and after it is read;
- `removed`: the target leaves its map (`exit`) while much data waits, by delete or by close;
- `dead`: the peer of the target is gone: what `told` the sender is an errno, or `"nothing"`; then another target takes
  the place, and `again` says what arrives there;
- `many`: `connections` of them at once get their own data each; the map is `full`, and has `room` after a delete.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.pressure.guest.setup import MOST, NARROW, PATIENCE, STREAM, TARGET, Setup
from conformance.guestlib import fixture, sockets, traffic
from conformance.guestlib.answers import Steps, outcome
from conformance.guestlib.fixture import Fixture

_PIECES: Final = {"unix_dgram": 1 << 10, "vsock_seqpacket": 1 << 12}
_PIECE: Final = 1 << 14
_HELD: Final = 0.06
"""Seconds in which a sender that is not held can send again: longer than TCP delays an acknowledgement."""
_FEW, _SEVERAL = 100, 16
_CONNECTIONS: Final = 64
_TRIES: Final = 8
"""Sends to a target whose peer is gone, at most."""


def _held(case: Setup) -> None:
    """Send until the sender is held, read all of it, and send again."""
    for each in (case.target, case.peer):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    case.insert()
    case.steps["held"] = _fill(case)
    case.steps["read"] = case.read()
    case.steps["send-then"] = "ok" if select.select([], [case.sender], [], PATIENCE)[1] else "waits"
    if case.sent < MOST:
        case.send(_FEW)
    case.steps["read-then"] = case.read()


def _fill(case: Setup) -> str:
    size = _PIECES.get(case.kind, _PIECE)
    case.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
    moved = time.monotonic()
    # The last bytes are for later.
    while case.sent < MOST - size:
        answer = case.send(size)
        if answer == "ok":
            moved = time.monotonic()
            continue
        if answer != "EAGAIN":
            return answer
        case.settle()
        _acknowledge(case)
        # The sender of a redirect may be writable although the target is full.
        select.select([], [case.sender], [], _HELD)
        if time.monotonic() - moved > _HELD:
            return "held"
    return "never"


def _acknowledge(case: Setup) -> None:
    """Have TCP acknowledge what it received at once."""
    if sockets.is_tcp(case.kind):
        for each in filter(None, (case.target, case.peer, case.source)):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _charged(case: Setup) -> None:
    """Ask for the memory that is charged to the reader: without data, with data, and after a read."""
    case.insert()
    case.steps["memory"] = case.charged()
    for _ in range(_SEVERAL):
        case.send(_FEW)
    case.settle()
    if sockets.SORTS[case.kind][0] in (socket.AF_INET, socket.AF_INET6):
        # Other kinds charge the sender until the reader has the data, or count in credits.
        case.steps["memory-with-data"] = case.charged()
    case.steps["read"] = case.read()
    case.settle()
    case.steps["memory-then"] = case.charged()


def _removed(case: Setup, way_out: Callable[[Setup], object]) -> None:
    """Have the target leave the map while data waits."""
    case.insert()
    for _ in range(_SEVERAL):
        case.send(_PIECES.get(case.kind, 1 << 12))
    case.settle()
    case.steps["exit"] = str(outcome(way_out, case) or "ok")
    case.settle()
    if case.target.fileno() >= 0:
        # The data that was redirected is gone, as teardown shows; the socket itself has to work on.
        traffic.take_all(case.target, stream=sockets.connects(case.kind))
        data = bytes(_FEW)
        case.peer.send(data)
        case.settle()
        case.steps["read-then"] = "all" if outcome(case.target.recv, MOST, socket.MSG_DONTWAIT) == data else "other"
        fixture.reap()
        case.steps["memory-then"] = case.charged()


def _deleted(case: Setup) -> None:
    _removed(case, lambda case: case.home and case.home.delete(TARGET))


def _closed(case: Setup) -> None:
    _removed(case, lambda case: case.target.close())


def _dead(case: Setup) -> None:
    """Send until the sender learns that the peer of the target is gone; then have another target take its place."""
    case.insert()
    if not case.mapped:
        case.sender = case.target
    case.peer.close()
    case.settle()
    told = "nothing"
    for _ in range(_TRIES):
        answer = case.send(_FEW)
        case.settle()
        if answer != "ok":
            told = "an error" if answer in ("EPIPE", "ECONNRESET", "ECONNREFUSED", "ENOTCONN") else answer
            break
    case.steps["told"] = told
    if case.home is not None:
        case.target, case.peer = case.fixture.pair(case.kind)
        case.steps["replace"] = case.home.insert(case.target, TARGET)
        case.reader, case.sent, case.got = case.peer, 0, 0
        case.steps["again"] = case.send(_FEW)
        case.steps["read-then"] = case.read()


def _many(case: Setup) -> None:
    """Insert many sockets until the map is full, send to each, and see each receive its own data."""
    pairs = [case.fixture.pair(case.kind) for _ in range(_CONNECTIONS)]
    home = case.fixture.map(case.map_type, _CONNECTIONS)
    fixture.attach(home, fixture.counting("sk_skb_verdict", "passed").descriptor)
    answers = {home.insert(end, key) for key, (end, _) in enumerate(pairs)}
    case.steps["insert"] = " ".join(sorted(answers))
    case.steps["full"] = home.insert(case.target, _CONNECTIONS)
    case.steps["received"] = _each(case, pairs)
    home.delete(_CONNECTIONS - 1)
    case.steps["room"] = home.insert(case.target, _CONNECTIONS - 1)
    case.steps["received-then"] = _each(case, [*pairs[:-1], (case.target, case.peer)])


def _each(case: Setup, pairs: list[tuple[socket.socket, socket.socket]]) -> str:
    """Send to each its own part of the stream; say whether each received that."""
    for number, (_, peer) in enumerate(pairs):
        peer.send(STREAM[number * _FEW : (number + 1) * _FEW], socket.MSG_DONTWAIT)
    case.settle()
    wrong = sum(
        outcome(end.recv, NARROW, socket.MSG_DONTWAIT) != STREAM[number * _FEW : (number + 1) * _FEW]
        for number, (end, _) in enumerate(pairs)
    )
    return "all" if not wrong else f"not {wrong} of {len(pairs)}"


QUESTIONS: Final[Mapping[str, Callable[[Setup], object]]] = {
    "held": _held,
    "charged": _charged,
    "deleted": _deleted,
    "closed": _closed,
    "dead": _dead,
    "many": _many,
}
"""By the first parameter of a case."""
_known: Final[dict[tuple[str, str], Steps]] = {}
"""The answers of each control of this process, by question and kind."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case."""
    observation = _in_map(params)
    inserted = observation["steps"].get("insert") == "ok"
    return {**observation, "control": _control(params)} if inserted and params["ask"] in _CONTROLLED else observation


_CONTROLLED: Final = ("held", "charged", "dead")
"""Questions that a plain connection can be asked."""


def _control(params: Mapping[str, str]) -> Steps:
    key = params["ask"], params["kind"]
    if key not in _known:
        _known[key] = _in_no_map(params)["steps"]
    return _known[key]


@fixture.scenario
def _in_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    QUESTIONS[params["ask"]](Setup(params, steps, owned, mapped=True))


@fixture.scenario
def _in_no_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    QUESTIONS[params["ask"]](Setup(params, steps, owned, mapped=False))
