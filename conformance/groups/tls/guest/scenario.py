# SPDX-License-Identifier: GPL-2.0-only
"""Give the TLS protocol and keys to a socket in a map, and see which bytes it sends and receives.

The Observation is `{"steps": {name: answer}, "control": {name: answer}}`. The control makes the same calls on a socket
that was never in a map. A process runs each control once and keeps its answers.

- `insert`, `protocol`, `send-keys`, `receive-keys`, `delete`, `other`: `"ok"` or the errno;
- `send`, `answer`: what send(2) of the socket and send(2) of its peer returned;
- `wire`: what the peer, which does not decrypt, receives: plain text, cipher text, or nothing;
- `arrives`: the bytes that a peer with the keys receives; `reads`: the bytes that the socket receives. `0-100` are the
  first hundred bytes of the stream;
- `held`: the bytes that a peer with the keys receives while the program corks;
- `runs`: whether the program ran for the data that it is attached for;
- `quiet`, `event`: what poll(2) reports while no record waits, and while one waits; `woken`: whether edge-triggered
  epoll reports the record;
- `shutdown`: what shutdown(2) of the socket returned;
- `entry`: what a lookup in the map returns after the socket was closed.

`-more` is a message of more than one record. `-closed` comes after close(2). `-then` comes after the socket has read,
or after another socket, outside of maps, has got the TLS protocol.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.tls.guest.setup import CORKED, POPPED, TlsSetup, give_protocol
from conformance.guestlib import fixture
from conformance.guestlib.answers import Steps, attempt, by_name
from conformance.guestlib.fixture import Fixture

_SHORT: Final = 100
_LONG: Final = 20000
"""Bytes of a message that needs two records: a record holds at most 16,384."""
_BEGINNING: Final = 40
_SEES_SENT: Final = ("msg", "pop", "cork", "drop")
"""The programs that run when the socket sends; the others run when it receives."""
_SPARES: Final = ("none", "msg", "verdict", "parser")
"""The programs that change no byte."""

_known: Final[dict[tuple[str, ...], Steps]] = {}
"""The answers of each control of this process."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case."""
    control = _control(params)
    return {**_in_map(params), "control": control}


def _control(params: Mapping[str, str]) -> Steps:
    key = params["what"], params["keys"], params["kind"], str(params["program"] == "cork")
    if key not in _known:
        _known[key] = _in_no_map(params)["steps"]
    return _known[key]


@fixture.scenario
def _in_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    _ask(TlsSetup(params, steps, owned, mapped=True), params["what"])


@fixture.scenario
def _in_no_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    program = "cork" if params["program"] == "cork" else "none"
    _ask(TlsSetup({**params, "program": program}, steps, owned, mapped=False), params["what"])


def _ask(case: TlsSetup, what: str) -> None:
    case.insert()
    case.switch()
    _QUESTIONS[what](case)


def _data(case: TlsSetup) -> None:
    """Send both ways: a message of less than one record and, if the program changes no byte, one of more."""
    if case.program == "cork":
        _corked(case)
    else:
        _exchange(case)
    if case.program in _SPARES:
        _exchange(case, "-more", _LONG)


def _exchange(case: TlsSetup, suffix: str = "", size: int = _SHORT) -> None:
    """Send both ways."""
    before = case.runs()
    case.steps[f"send{suffix}"] = case.send(size)
    case.outgoing({"pop": size - POPPED, "drop": 0}.get(case.program, size), suffix)
    between = case.runs()
    case.steps[f"answer{suffix}"] = case.answer(size)
    case.incoming(size, suffix)
    if case.mapped and case.program != "none":
        ran = between > before if case.program in _SEES_SENT else case.runs() > between
        case.steps[f"runs{suffix}"] = "yes" if ran else "no"


def _corked(case: TlsSetup) -> None:
    """Send in two pieces, which the program corks into one; in the control, MSG_MORE joins them."""
    before = case.runs()
    first = case.send(_BEGINNING, 0 if case.mapped else socket.MSG_MORE)
    if case.mapped:
        case.outgoing(0)
        case.steps["held"] = case.steps.pop("arrives")
    second = case.send(CORKED - _BEGINNING)
    case.steps["send"] = first if first != "ok" else second
    case.outgoing(CORKED)
    if case.mapped:
        case.steps["runs"] = "yes" if case.runs() > before else "no"
    case.steps["answer"] = case.answer(_SHORT)
    case.incoming(_SHORT)


def _delete(case: TlsSetup) -> None:
    """Delete the socket from its map, and send both ways."""
    if case.mapped:
        case.steps["delete"] = case.home.delete()
    _poll(case)
    case.steps["send"] = case.send(_SHORT)
    case.outgoing(_SHORT)
    _exchange(case, "-more", _LONG)
    case.ours.close()
    case.outgoing(0, "-closed")


def _close(case: TlsSetup) -> None:
    """Close the socket while TCP_CORK still holds its data."""
    case.ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    case.steps["send"] = case.send(_SHORT)
    case.ours.close()
    case.outgoing(_SHORT)
    if case.mapped:
        case.steps["entry"] = case.home.whose(0, case.cookie)


def _end(case: TlsSetup) -> None:
    """The peer sends and shuts down, then the socket sends and shuts down."""
    case.steps["answer"] = case.answer(_SHORT)
    case.peer.shutdown(socket.SHUT_WR)
    case.incoming(_SHORT)
    case.steps["send"] = case.send(_SHORT)
    case.steps["shutdown"] = attempt(case.ours.shutdown, socket.SHUT_WR)
    case.outgoing(_SHORT)


def _poll(case: TlsSetup) -> None:
    """Poll the socket before a record arrives, while the record waits, and after the socket has read it."""
    with select.epoll() as edge:
        edge.register(case.ours, select.EPOLLIN | select.EPOLLET)
        case.steps["quiet"] = _ready(case)
        case.steps["answer"] = case.answer(_SHORT)
        case.settle()
        case.steps["woken"] = "yes" if edge.poll(0) else "no"
    case.steps["event"] = _ready(case)
    case.incoming(_SHORT)
    case.steps["quiet-then"] = _ready(case)


def _ready(case: TlsSetup) -> str:
    asked = select.poll()
    asked.register(case.ours, select.POLLIN)
    return "readable" if asked.poll(0) else "not readable"


def _other_socket(case: TlsSetup) -> None:
    """Send both ways, give the TLS protocol to a socket outside of maps, and send both ways again."""
    _exchange(case)
    other, _ = case.owned.pair(case.kind)
    case.steps["other"] = attempt(give_protocol, other)
    _exchange(case, "-then")


_QUESTIONS: Final[Mapping[str, Callable[[TlsSetup], None]]] = by_name(
    _data, _delete, _close, _end, _poll, _other_socket
)
