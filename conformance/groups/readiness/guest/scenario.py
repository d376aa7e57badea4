# SPDX-License-Identifier: GPL-2.0-only
"""Call poll(2), FIONREAD and recv(2) on a socket in a map while data arrives.

A case asks one question (`ask`, `what`) about a reader (`kind`, `map`) and the path of the data (`way`). The
Observation is `{"steps": {name: answer}, "control": {name: answer}}`. The control makes the same calls on a socket that
was never in a map, to which its peer sends. A process runs each control once and remembers its answers.

- `insert`: `"ok"`, or the errno, which ends the case; `way`: `"so"` if the program ran on the data;
- `count...`: the result of FIONREAD;
- `read...`, `rest`, `last`, `end`: the bytes that recv(2) returned, or the errno; `0-40`: the first forty sent bytes;
- `ready...`: the reports of poll(2), select(2), level- and edge-triggered epoll; `ready-after...`: after a read;
- `reader`: `"waits"` while a thread is blocked in recv(2), then the bytes that recv(2) returned;
- `full`: the errno of send(2) on a full socket; `edge-then`, `send-then`: the report of edge-triggered epoll after the
  peer has read, and the next send(2);
- options.py describes the steps of flags and options.
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
    # A control is of no use if the kernel refuses to insert such a socket.
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
