# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.groups.redirect.cases import redirect_cases
from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, observe, open_host
from vm.session import Session

pytestmark = needs_bpf

SIZES = {"byte": 1, "kilobyte": 1024, "burst": 8189}
NOWHERE: dict[str, set[str]] = {phase: set() for phase in SIZES}
BUDGET = 100
"""Runs of random cases in the flake test."""


@pytest.fixture(name="host", scope="module")
def fixture_host() -> Iterator[Session]:
    """This host with sound programs."""
    with open_host() as session:
        yield session


def cases() -> list[dict[str, str]]:
    """Return the parameters of every case that needs no vsock loopback, which the host may lack."""
    return [
        dict(case.params)
        for case in redirect_cases()
        if not any(value.startswith("vsock") for value in case.params.values())
    ]


def merged(messages: list[Any]) -> list[Any]:
    """Return the segments of all messages, with adjacent ones joined."""
    found: list[Any] = []
    for segment in (segment for message in messages for segment in message):
        if found and isinstance(segment, list) and isinstance(found[-1], list) and sum(found[-1]) == segment[0]:
            found[-1] = [found[-1][0], found[-1][1] + segment[1]]
        else:
            found.append(segment)
    return found


def where(observation: Any) -> dict[str, set[str]]:
    """Return for each phase the sockets that received all of it once and in order; others appear with a `?`."""
    return {
        phase["name"]: {
            name if merged(messages) == [[0, SIZES[phase["name"]]]] else f"{name}?"
            for name, messages in phase["received"].items()
            if messages
        }
        for phase in observation["phases"]
    }


def everywhere(name: str) -> dict[str, set[str]]:
    """Return the result of `where` if one socket received every phase."""
    return {phase: {name} for phase in SIZES}


def receiver(case: dict[str, str]) -> str | None:
    """Return the receiving role by the support matrix of 5.15 and later; None if sending is refused."""
    source, target, mode = case["in"][:3], case["out"][:3], case["mode"]
    out = {"self": "in", "peer": "in_peer"}.get(case["layout"], "out")
    if mode.startswith("send") and source != "tcp":
        return "in_peer"
    if mode == "send-to-egress" and target != "tcp":
        return None
    if mode.endswith("local"):
        return out
    if case["layout"] == "peer":
        return "in"
    return "in_peer" if out == "in" else "out_peer"


def test_the_whole_matrix_is_as_the_running_kernel_should_have_it(host: Session) -> None:
    """Every case is observed; each phase of each is at rest and every byte is where it belongs, once, in order."""
    wrong = []
    for case, seen in zip(cases(), ask(host, "many", cases=cases()), strict=True):
        if case["layout"] == "parser" and not case["in"].startswith("tcp"):
            # 6.14 and stable branches refuse to insert it, older kernels never run the program.
            sound = seen["insert"]["in"] == "EOPNOTSUPP" or where(seen) == everywhere("in")
        elif (expected := receiver(case)) is None:
            sound = where(seen) == NOWHERE
            sound = sound and all(set(phase["send"]) == {"EACCES"} for phase in seen["phases"])
        else:
            sound = where(seen) == everywhere(expected)
            sound = sound and all(phase["send"] == phase["sent"] for phase in seen["phases"])
        sound = sound and all(phase["settled"] for phase in seen["phases"])
        sound = sound and set(seen["errors"].values()) <= {"ok"}
        if not sound:
            wrong.append((case, seen))
    assert {(case["mode"], case["layout"]) for case in cases()} == {
        (case.params["mode"], case.params["layout"]) for case in redirect_cases()
    }
    assert wrong == []


def test_random_cases_come_out_alike_every_time(host: Session) -> None:
    """Repeated observations differ only in recv() boundaries."""
    chosen = random.Random(1).choices(cases(), k=BUDGET)
    first, second = (ask(host, "many", cases=chosen) for _ in range(2))
    for case, one, other in zip(chosen, first, second, strict=True):
        assert where(one) == where(other), case
        for phase, again in zip(one["phases"], other["phases"], strict=True):
            assert {**phase, "received": 0, "runs": 0} == {**again, "received": 0, "runs": 0}, case
            for quantity in ("pass_bytes", "drop_bytes"):
                assert phase["runs"][quantity] == again["runs"][quantity], case


def test_message_boundaries_are_kept_where_the_socket_has_them(host: Session) -> None:
    """Sixteen datagrams are sixteen entries; redirected to a receive queue they are one."""
    egress = observe(host, **{"in": "unix_dgram"})["phases"][2]
    assert [sum(length for _, length in message) for message in egress["received"]["out_peer"]] == egress["sent"]
    local = observe(host, **{"in": "unix_dgram", "mode": "ingress-to-local"})["phases"][2]
    assert local["received"]["out"] == [[[0, 8189]]]


def test_the_program_counts_what_it_saw(host: Session) -> None:
    """Runs and bytes are counted per phase, with dropped ones separate."""
    runs = [phase["runs"] for phase in observe(host, **{"in": "udp4"})["phases"]]
    assert [(each["pass"], each["pass_bytes"], each["drop"]) for each in runs] == [
        (1, 1, 0),
        (1, 1024, 0),
        (16, 8189, 0),
    ]
    refused = observe(host, **{"in": "tcp4", "out": "udp4", "mode": "send-to-egress"})["phases"][0]
    assert refused["runs"] == {"pass": 0, "pass_bytes": 0, "drop": 1, "drop_bytes": 1}


def test_what_comes_back_to_the_program_ends_after_two_laps(host: Session) -> None:
    """A redirect to the egress of IN's peer returns to IN; the budget turns the third lap into a delivery."""
    phases = observe(host, layout="peer", **{"in": "udp6"})["phases"]
    assert [(phase["runs"]["pass"], phase["runs"]["pass_bytes"]) for phase in phases] == [
        (3, 3),
        (3, 3072),
        (48, 24567),
    ]


def test_an_impossible_socket_is_observed_as_its_errno() -> None:
    """A kind that this kernel cannot create ends the case there; the other pair is still created."""
    without = """
def broken(arguments):
    sockets.SORTS["tcp4"] = (*sockets.SORTS["tcp4"][:2], ("192.0.2.1", 0))
    return many(arguments)
"""
    with open_host(without) as host:
        case = cases()[0] | {"in": "tcp4", "out": "udp4"}
        # Fences that need TCP exist already.
        observe(host)
        assert ask(host, "broken", cases=[case])[0] == {
            "socket": {"in": "EADDRNOTAVAIL", "out": "ok"},
            "attach": [],
            "insert": {},
            "phases": [],
            "errors": {},
        }


def test_a_refused_insertion_is_observed_and_both_are_tried() -> None:
    """An errno of one insertion does not hide that of the other."""
    closed = """
def listening(arguments):
    family, _, address = sockets.SORTS["unix_stream"]
    sockets.SORTS["unix_stream"] = family, sockets.socket.SOCK_SEQPACKET, address
    return many(arguments)
"""
    with open_host(closed) as host:
        observe(host)
        seen = ask(host, "listening", cases=[cases()[0] | {"in": "unix_stream", "out": "tcp4"}])[0]
    assert seen["insert"] == {"in": "EOPNOTSUPP", "out": "ok"}
    assert seen["phases"] == []


def test_every_attempt_to_attach_is_observed() -> None:
    """Where sk_skb_verdict is unknown, as on 5.10, stream_verdict is tried, too, and both answers are recorded."""
    old = """
from bpf.guest import syscall
def old(arguments):
    syscall.ATTACH_TYPES["sk_skb_verdict"] = 1000
    return many(arguments)
"""
    with open_host(old) as host:
        seen = ask(host, "old", cases=[cases()[0] | {"mode": "ingress-to-egress", "in": "tcp4", "out": "tcp6"}])[0]
    assert seen["attach"] == [["sk_skb_verdict", "EINVAL"], ["sk_skb_stream_verdict", "ok"]]
    assert where(seen) == everywhere("out_peer")


def test_nothing_stays_open(host: Session) -> None:
    """After a case, sockets, maps and programs are gone; listeners and fences stay, but only once."""
    some = random.Random(2).choices(cases(), k=20)
    ask(host, "many", cases=some)
    before = ask(host, "descriptors")
    ask(host, "many", cases=some)
    assert ask(host, "descriptors") == before


def test_nothing_stays_open_after_an_exception() -> None:
    """An exception during a case closes all its sockets and maps."""
    failing = """
def failing(arguments):
    def fail(*arguments):
        raise ZeroDivisionError
    send, redirect._Flow._send = redirect._Flow._send, fail
    try:
        many(arguments)
    except ZeroDivisionError:
        return "raised"
    finally:
        redirect._Flow._send = send
"""
    with open_host(failing) as host:
        observe(host, **{"in": "tcp4"})
        before = ask(host, "descriptors")
        assert ask(host, "failing", cases=[cases()[0]]) == "raised"
        assert ask(host, "descriptors") == before
