# SPDX-License-Identifier: GPL-2.0-only
"""Send to a reader that does not read, to a target whose peer is closed, and to many sockets of a full map.

A case asks one question (`ask`) about a `kind` of socket and the `way` of the data. The Observation is
`{"steps": {...}, "control": {...}}`; the control is the same scenario on a connection in no map. A process runs each
control once and remembers its answers.

- `blocked`: the sender sends until send(2) keeps failing with EAGAIN (`"yes"`), or until it has sent `MOST` bytes
  (`"no"`); `read` says whether all of them arrived in order; `send-then` and `read-then` repeat both after that read;
- `rmem`: whether SK_MEMINFO_RMEM_ALLOC of the reader is `"0"` or `"above 0"`: in the beginning (`rmem`), while data
  waits (`rmem-with-data`), and after the data is read (`rmem-then`);
- `deleted`, `closed`: the target is deleted from its map, or closed, while data waits (`exit`); a deleted socket then
  receives (`read-then`), and `rmem-then` is asked once more;
- `dead`: the peer of the target is closed; `error` says whether send(2) on the sender then fails; another target takes
  its slot (`replace`) and receives (`again`, `read-then`);
- `many`: each of many sockets receives its own data (`received`); the map refuses one more (`full`), and accepts it
  after a delete (`room`); then each socket receives again (`received-then`).
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
"""Bytes of one send(2) that fills a buffer."""
_BLOCKED: Final = 0.06
"""Seconds of EAGAIN after which a sender counts as blocked: longer than TCP delays an acknowledgement.

The wait is the measurement: no call reports that a full socket stays full while its peer does not read.
"""
_FEW, _SEVERAL = 100, 16
"""Bytes of a short message, and how many messages make several."""
_CONNECTIONS: Final = 64
_TRIES: Final = 8
"""Sends to a target whose peer is closed, at most."""


def _blocked(case: Setup) -> None:
    """Send until send(2) would block, read everything, and send again."""
    for each in (case.target, case.peer):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
    case.insert()
    case.steps["blocked"] = _fill(case)
    case.steps["read"] = case.read()
    case.steps["send-then"] = "ok" if select.select([], [case.sender], [], PATIENCE)[1] else "waits"
    if case.sent < MOST:
        case.send(_FEW)
    case.steps["read-then"] = case.read()


def _fill(case: Setup) -> str:
    size = _PIECES.get(case.kind, _PIECE)
    case.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
    full = 0.0
    # The last bytes of the stream are left for the step `send-then`.
    while case.sent < MOST - size:
        tried = time.monotonic()
        answer = case.send(size)
        if answer == "ok":
            full = 0.0
            continue
        if answer != "EAGAIN":
            return answer
        # Only a send(2) that was tried so late says that the sender is blocked: a busy host may delay everything else.
        full = full or tried
        if tried - full > _BLOCKED:
            return "yes"
        case.settle()
        _acknowledge(case)
        # The sender of a redirect may be writable although the target is full.
        select.select([], [case.sender], [], _BLOCKED)
    return "no"


def _acknowledge(case: Setup) -> None:
    """Have TCP acknowledge received data at once."""
    if sockets.is_tcp(case.kind):
        for each in filter(None, (case.target, case.peer, case.source)):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _rmem(case: Setup) -> None:
    """Ask for the receive memory of the reader: before data arrives, while data waits, and after a read."""
    case.insert()
    case.steps["rmem"] = case.rmem()
    for _ in range(_SEVERAL):
        case.send(_FEW)
    case.settle()
    if sockets.SORTS[case.kind][0] in (socket.AF_INET, socket.AF_INET6):
        # UNIX sockets count waiting data in the sender's memory, and VSOCK in credits. On a busy host a fence may
        # return before the kernel's worker has queued the first message.
        select.select([case.reader], [], [], PATIENCE)
        case.steps["rmem-with-data"] = case.rmem()
    case.steps["read"] = case.read()
    case.settle()
    case.steps["rmem-then"] = case.rmem()


def _removed(case: Setup, way_out: Callable[[Setup], object]) -> None:
    """Take the target out of its map while data waits."""
    case.insert()
    for _ in range(_SEVERAL):
        case.send(_PIECES.get(case.kind, 1 << 12))
    case.settle()
    case.steps["exit"] = str(outcome(way_out, case) or "ok")
    case.settle()
    if case.target.fileno() >= 0:
        # teardown asks about the waiting data. Here the socket must still receive new data.
        traffic.take_all(case.target, stream=sockets.connects(case.kind))
        data = bytes(_FEW)
        case.peer.send(data)
        case.settle()
        case.steps["read-then"] = "all" if outcome(case.target.recv, MOST, socket.MSG_DONTWAIT) == data else "other"
        fixture.reap()
        case.steps["rmem-then"] = case.rmem()


def _deleted(case: Setup) -> None:
    _removed(case, lambda case: case.home and case.home.delete(TARGET))


def _closed(case: Setup) -> None:
    _removed(case, lambda case: case.target.close())


def _dead(case: Setup) -> None:
    """Send until send(2) fails because the target's peer is closed; then insert another target into the slot."""
    case.insert()
    if not case.mapped:
        case.sender = case.target
    case.peer.close()
    case.settle()
    error = "none"
    for _ in range(_TRIES):
        answer = case.send(_FEW)
        case.settle()
        if answer != "ok":
            error = "an error" if answer in ("EPIPE", "ECONNRESET", "ECONNREFUSED", "ENOTCONN") else answer
            break
    case.steps["error"] = error
    if case.home is not None:
        case.target, case.peer = case.fixture.pair(case.kind)
        case.steps["replace"] = case.home.insert(case.target, TARGET)
        case.reader, case.sent, case.got = case.peer, 0, 0
        case.steps["again"] = case.send(_FEW)
        case.steps["read-then"] = case.read()


def _many(case: Setup) -> None:
    """Insert sockets until the map is full, send to each, and ask whether each received its own data."""
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
    """Send each socket its own part of the stream; say whether each received that part."""
    for number, (_, peer) in enumerate(pairs):
        peer.send(STREAM[number * _FEW : (number + 1) * _FEW], socket.MSG_DONTWAIT)
    case.settle()
    wrong = sum(
        outcome(end.recv, NARROW, socket.MSG_DONTWAIT) != STREAM[number * _FEW : (number + 1) * _FEW]
        for number, (end, _) in enumerate(pairs)
    )
    return "all" if not wrong else f"not {wrong} of {len(pairs)}"


QUESTIONS: Final[Mapping[str, Callable[[Setup], object]]] = {
    "blocked": _blocked,
    "rmem": _rmem,
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


_CONTROLLED: Final = ("blocked", "rmem", "dead")
"""Questions that need no map."""


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
