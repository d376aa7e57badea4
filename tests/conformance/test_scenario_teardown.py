# SPDX-License-Identifier: GPL-2.0-only
"""The teardown scenario on the running kernel: it sees what is there, and every fault planted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.groups.teardown import teardown_cases
from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask
from tests.conformance.scenario_host import open_host
from vm.session import Session

pytestmark = needs_bpf

CODE = """
import os
import socket

from conformance.scenarios import teardown, teardown_aftermath, teardown_data, teardown_exits

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
    "skipped": replacing(teardown_exits.EXITS, "delete", lambda leave: lambda scene: None),
    "leaked": replacing(teardown_exits.EXITS, "close", first_leaked),
    "lost": replacing(teardown_aftermath, "send", lost),
    "twice": replacing(teardown_aftermath, "send", twice),
    "cut": replacing(teardown_aftermath, "send", cut),
    "torn": replacing(teardown_aftermath, "send", torn),
}

def known(arguments):
    return [sorted(teardown_exits.EXITS), sorted(teardown_data.DATA)]

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
    asked = [sorted({case.params[name] for case in teardown_cases()}) for name in ("exit", "data")]
    assert ask(host, "known") == asked


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


def test_nothing_stays_open(host: Session) -> None:
    """A case closes what it opened, threads, maps and sockets."""
    name = "delete-sockhash-unix_dgram-verdict-pollers"
    run(host, name)
    before = ask(host, "descriptors")
    run(host, name)
    run(host, "close-sockhash-unix_dgram-member-reader")
    assert ask(host, "descriptors") == before
