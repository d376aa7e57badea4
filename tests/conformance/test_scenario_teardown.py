# SPDX-License-Identifier: GPL-2.0-only
"""The teardown scenario on the running kernel: it sees every planted fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.groups.teardown.cases import teardown_cases
from conformance.judge.steps import judge_steps
from conformance.model import Verdict
from tests.bpf.privilege import needs_bpf
from tests.conformance.observations import facts
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

CODE = """
import os
import socket

from conformance.groups.teardown.guest import scenario as teardown
from conformance.groups.teardown.guest import data as teardown_data
from conformance.guestlib import traffic
from conformance.guestlib import waiters
from conformance.guestlib import ways_out

KEPT = []

def replacing(where, name, other):
    def plant():
        original = where[name] if isinstance(where, dict) else getattr(where, name)
        put = where.__setitem__ if isinstance(where, dict) else lambda key, value: setattr(where, key, value)
        put(name, other(original))
        return lambda: put(name, original)
    return plant

def first_leaked(leave):
    def run(scene):
        KEPT.append(os.dup(scene.end.fileno()))
        leave(scene)
    return run

def lost(send):
    return lambda through, data: "ok"

def twice(send):
    return lambda through, data: (send(through, data), send(through, data))[1]

def cut(send):
    return lambda through, data: (send(through, data[:-1]), "ok")[1]

def torn(send):
    return lambda through, data: (send(through, data[96:] + data[:96][::-1]), "ok")[1]

FAULTS = {
    "skipped": replacing(ways_out.WAYS, "delete", lambda leave: lambda scene: None),
    "leaked": replacing(ways_out.WAYS, "close", first_leaked),
    "lost": replacing(traffic, "send", lost),
    "twice": replacing(traffic, "send", twice),
    "cut": replacing(traffic, "send", cut),
    "torn": replacing(traffic, "send", torn),
}

def deaf(thread):
    return lambda waiter: waiters.WAITS

def broken(name):
    return lambda end: "EPIPE"

# What only sockets in a map meet: the controls are there before it is planted.
KERNEL_FAULTS = FAULTS | {
    "deaf": replacing(waiters.Waiter, "answer", deaf),
    "broken": replacing(traffic, "pending_error", broken),
}

def observe(arguments):
    teardown._known.clear()
    if arguments["fault"] in ("", "skips the control"):
        return plant(arguments)
    teardown.control(arguments["params"])
    undo = KERNEL_FAULTS[arguments["fault"]]()
    try:
        return teardown.run(arguments["params"])
    finally:
        undo()

def controls(arguments):
    teardown._known.clear()
    for params in arguments["params"]:
        teardown.run(params)
    return len(teardown._known)

def plant(arguments):
    original = teardown.control
    if arguments["fault"]:
        teardown.control = lambda params: {"exit": "ok", "data": "so", "receive": "ok", "send": "ok", "error": "ok"}
    try:
        return teardown.run(arguments["params"])
    finally:
        teardown.control = original

def known(arguments):
    return [sorted(ways_out.WAYS), sorted(teardown_data.DATA)]

def carry_out(arguments):
    undo = FAULTS[arguments["fault"]]() if arguments["fault"] else lambda: None
    try:
        return teardown.run(arguments["params"])["steps"]
    finally:
        undo()
        while KEPT:
            os.close(KEPT.pop())
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    """Yield this host with faults to plant."""
    with open_host(CODE) as session:
        yield session


def run(host: Session, name: str, fault: str = "") -> dict[str, str]:
    """Carry out a case, with a fault planted if one is named."""
    case = next(case for case in teardown_cases() if case.name == name)
    return dict(ask(host, "carry_out", params=dict(case.params), fault=fault))


def test_the_guest_knows_what_is_asked_for(host: Session) -> None:
    """The lists on both sides are the same."""
    exits, data = ({case.params[name] for case in teardown_cases()} for name in ("exit", "data"))
    assert ask(host, "known") == [sorted(exits | {"in_flight_to_itself", "shutdown"}), sorted(data)]


@pytest.mark.parametrize(
    ("fault", "name", "step", "sound", "seen"),
    [
        ("skipped", "delete-sockmap-unix_stream-verdict-none", "entry", "gone", "there"),
        ("skipped", "delete-sockmap-unix_stream-verdict-none", "runs", "no", "yes"),
        ("skipped", "delete-sockmap-unix_stream-verdict-none", "probe", "ok", "EBUSY"),
        ("leaked", "close-sockhash-unix_dgram-member-none", "entry", "gone", "there"),
        ("leaked", "close-sockhash-unix_dgram-member-none", "receive", "ECONNREFUSED", "nowhere"),
        ("lost", "delete-sockmap-unix_stream-member-none", "receive", "socket", "nowhere"),
        ("lost", "delete-sockmap-unix_stream-member-reader", "reader-then", "data", "waits"),
        ("lost", "delete-sockmap-unix_stream-member-pollers", "pollers-then", "in", "waits"),
        ("twice", "delete-sockmap-unix_stream-member-none", "receive", "socket", "socket 2 times"),
        ("twice", "delete-sockmap-unix_stream-member-none", "socket-reads-then", "", "768 bytes not sent so"),
        ("cut", "delete-sockmap-unix_stream-member-none", "send", "peer", "peer the beginning"),
        ("torn", "delete-sockmap-unix_stream-member-none", "send", "peer", "nowhere"),
    ],
)
def test_what_is_wrong_is_seen(host: Session, fault: str, name: str, step: str, sound: str, seen: str) -> None:
    """A departure that is skipped, a leaked duplicate, bytes lost, doubled, cut or torn, a sleeping reader."""
    assert run(host, name).get(step, "") == sound
    assert run(host, name, fault).get(step, "") == seen


@pytest.mark.parametrize(
    ("fault", "name", "difference"),
    [
        ("skipped", "delete-sockmap-unix_stream-verdict-none", "wanted entry to give gone, got there"),
        ("lost", "delete-sockmap-unix_stream-member-none", "wanted receive to give socket, as the control did, got "),
        ("cut", "delete-sockmap-unix_stream-member-none", "wanted send to give peer, as the control did, got "),
        (
            "deaf",
            "delete-sockmap-unix_stream-member-reader",
            "wanted reader-then to give data, as the control did, got ",
        ),
        ("broken", "delete-sockmap-unix_stream-member-none", "wanted error to give ok, as the control did, got EPIPE"),
        (
            "skips the control",
            "delete-sockmap-unix_stream-member-none",
            "wanted control receive to give socket, got ok",
        ),
        ("skips the control", "close-sockhash-unix_dgram-member-none", "wanted receive to give ok, as the control did"),
    ],
)
def test_a_difference_from_the_control_is_judged_wrong(host: Session, fault: str, name: str, difference: str) -> None:
    """A socket in a map that differs from its control is named with the step; so is a control that was not run."""
    case = next(case for case in teardown_cases() if case.name == name)
    sound = ask(host, "observe", params=dict(case.params), fault="")
    assert judge_steps(case, facts("6.18.44"), sound).verdict is Verdict.PASS
    judgement = judge_steps(case, facts("6.18.44"), ask(host, "observe", params=dict(case.params), fault=fault))
    assert judgement.verdict is Verdict.FAIL
    assert any(each.startswith(difference) for each in judgement.differences), judgement.differences


def test_cases_share_a_control(host: Session) -> None:
    """A control runs once for each way out, kind and state of the data, as reduced for sockets outside of a map."""
    names = ("delete-sockmap-unix_stream-member-none", "replace-sockhash-unix_stream-verdict-none")
    params = [dict(case.params) for case in teardown_cases() if case.name in names]
    assert ask(host, "controls", params=params) == 1
    other = [dict(case.params) for case in teardown_cases() if case.name == "close-sockmap-unix_stream-member-none"]
    assert ask(host, "controls", params=params + other) == 2


def test_nothing_stays_open(host: Session) -> None:
    """A case closes what it opened, threads, maps and sockets."""
    name = "delete-sockhash-unix_dgram-verdict-pollers"
    run(host, name)
    before = ask(host, "descriptors")
    run(host, name)
    run(host, "close-sockhash-unix_dgram-member-reader")
    assert ask(host, "descriptors") == before
