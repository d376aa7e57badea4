# SPDX-License-Identifier: GPL-2.0-only
"""See when a socket in a map is ready, and whether a read then returns what readiness promised.

A case asks one thing (`ask`, `what`) about a reader (`kind`, `map`) and the way on which data comes to it (`way`). The
Observation is `{"steps": {name: answer}, "control": {name: answer}}`: the same calls on a socket that was never in a
map, to which its peer sends. A process runs each control once and remembers its answers.

- `insert`: `"ok"` or the errno, with which the case ends; `way`: `"so"` if the program of the way saw the data;
- `count...`: FIONREAD; `read...`, `rest`, `last`, `end`: the bytes that recv(2) returned, `0-40` being the first forty
  of all that were sent, or the errno;
- `event...`, `quiet...`: what poll(2), select(2) and epoll_wait(2), by level and by edge, report before and after;
- `reader`: whether a thread still waits in recv(2), or the bytes that it received;
- `full`, `edge-then`, `send-then`: send(2) to a full socket, the edge after the peer has read, and send(2) again;
- the steps of options are described where the options are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.groups.readiness.guest.options import OPTIONS
from conformance.groups.readiness.guest.questions import QUESTIONS
from conformance.groups.readiness.guest.setup import Setup
from conformance.guestlib import fixture
from conformance.guestlib.answers import Steps
from conformance.guestlib.fixture import Fixture

_known: Final[dict[tuple[str, ...], Steps]] = {}
"""The answers of each control of this process."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case."""
    observation = _in_map(params)
    # If the kernel does not insert such a socket, there is nothing to compare with a control.
    inserted = observation["steps"].get("insert") == "ok"
    return {**observation, "control": _control(params)} if inserted else observation


def _control(params: Mapping[str, str]) -> Steps:
    key = params["ask"], params["what"], params["kind"], str(params["way"] == "dropped")
    if key not in _known:
        _known[key] = _in_no_map(params)["steps"]
    return _known[key]


@fixture.scenario
def _in_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    _ask(Setup(params, steps, owned, mapped=True), params)


@fixture.scenario
def _in_no_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    _ask(Setup(params, steps, owned, mapped=False), params)


def _ask(case: Setup, params: Mapping[str, str]) -> None:
    questions = OPTIONS if params["ask"] == "option" else QUESTIONS
    questions[params["what"] if params["ask"] == "option" else params["ask"]](case)
