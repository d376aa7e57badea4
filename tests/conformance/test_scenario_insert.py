# SPDX-License-Identifier: GPL-2.0-only
"""The insertion scenarios on the running kernel: each state is the one it is named after, and nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.groups.insert.cases import insert_cases
from conformance.model import Case
from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

CODE = """
from importlib import import_module

def each(arguments):
    found = []
    for scenario, params in arguments["cases"]:
        module, _, function = scenario.partition(":")
        found.append(getattr(import_module(module), function)(params))
    return found

def left(arguments):
    sockets.close_listeners()
    with open("/proc/mounts") as mounts, open("/proc/self/cgroup") as cgroup:
        return [os.listdir("/proc/self/fd"), mounts.read(), os.listdir("/sys/fs/bpf"), cgroup.read()]
"""
STATES = {
    "fresh": "CLOSE",
    "listening": "LISTEN",
    "established": "ESTABLISHED",
    "syn_sent": "SYN_SENT",
    "syn_recv": "SYN_RECV",
    "fin_wait1": "FIN_WAIT1",
    "shut_wr": "FIN_WAIT2",
    "peer_shut_wr": "CLOSE_WAIT",
    "closing": "CLOSING",
    "last_ack": "LAST_ACK",
    "time_wait": "CLOSE",
}


@pytest.fixture(name="host", scope="module")
def fixture_host() -> Iterator[Session]:
    """This host."""
    with open_host(CODE) as session:
        yield session


def run(host: Session, *cases: Case) -> list[dict[str, str]]:
    """Carry cases out and return their steps."""
    found = ask(host, "each", cases=[(case.scenario, case.params) for case in cases])
    return [observation["steps"] for observation in found]


def local() -> list[Case]:
    """Return the cases that need no vsock loopback, which the host may lack."""
    return [case for case in insert_cases() if not case.params.get("kind", "").startswith("vsock")]


@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
@pytest.mark.parametrize(("state", "name"), STATES.items())
def test_tcp_is_in_the_state_the_case_is_named_after(host: Session, kind: str, state: str, name: str) -> None:
    """Every state of TCP that a descriptor can have is reached, and held."""
    case = next(case for case in insert_cases() if case.name == f"sockmap-{kind}-{state}")
    assert run(host, case)[0]["state"] == name


def test_an_entry_of_another_socket_is_reported(host: Session) -> None:
    """The cookie is compared with that of the inserted socket."""
    case = next(case for case in insert_cases() if case.name == "sockhash-map-any")
    steps: dict[str, Any] = run(host, case)[0]
    assert (steps["empty then"], steps["used then"]) == ("cookie 1", "cookie 2")


def test_every_answer_is_the_same_in_whatever_order_the_cases_are_asked(host: Session) -> None:
    """An answer does not depend on timers, order or chance."""
    cases = local()
    first = run(host, *cases)
    assert run(host, *reversed(cases)) == first[::-1]


def test_nothing_is_left(host: Session) -> None:
    """Descriptors, mounts, pins and cgroups are as before."""
    run(host, *local())
    before = ask(host, "left")
    run(host, *local())
    assert ask(host, "left") == before
