# SPDX-License-Identifier: GPL-2.0-only
"""Planted faults: what a broken kernel would do must show in the Observation."""

from __future__ import annotations

import time

import pytest

from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, observe, open_host

pytestmark = needs_bpf

CASE = {"map": "sockmap", "mode": "ingress-to-egress", "in": "unix_dgram", "out": "unix_dgram", "layout": "plain"}
DOUBLES = """
def planted(arguments):
    return FAULTS[arguments["fault"]](arguments)

def sending(change):
    # Replaces what one phase sends by what `change` makes of it: the rest of the scenario does not know.
    def run(arguments):
        sent = redirect._Flow._send
        def send(self, message):
            for each in change(self, message):
                self._setup.sender.send(each)
            self._accepted += len(message)
            return len(message)
        redirect._Flow._send = send
        try:
            return many(arguments)[0]
        finally:
            redirect._Flow._send = sent
    return run

def swapped(self, message, held=[]):
    # The second message of the burst comes after the third.
    if len(message) == 1500:
        held.append(message)
        return []
    return [message, held.pop()] if held else [message]

def lossy(change):
    def run(arguments):
        redirect.GRACE = arguments["grace"]
        return sending(change)(arguments)
    return run

def elsewhere(self, message):
    self._setup.ends["out"].send(b"stray" if len(message) == 1024 else b"")
    return [message]

def ended(self, message):
    # Nothing arrives, hence a long search, and one of the sockets has come to its end.
    self._setup.ends["out"].shutdown(1)
    return []

def stuck(arguments):
    # Cuts the way of the fence.
    quiesce.TIMEOUT = redirect.DEADLINE = 0.1
    quiesce.fences()._intake.close()
    return many(arguments)[0]

FAULTS = {
    "twice": sending(lambda self, message: [message, message]),
    "swapped": sending(swapped),
    "half": lossy(lambda self, message: [message[: len(message) // 2]]),
    "none": lossy(lambda self, message: []),
    "stray": sending(elsewhere),
    "ended": lossy(ended),
    "stuck": stuck,
}
"""


def test_a_program_that_redirects_to_the_wrong_slot() -> None:
    """With IN and OUT in one map the data of all phases turns up at IN's peer; with two maps it is dropped."""
    with open_host(programs={"sk_skb_redirect_map": "wrong_slot"}) as host:
        same = observe(host, layout="same_map")
        assert [sorted(name for name, found in phase["received"].items() if found) for phase in same["phases"]] == [
            ["in_peer"]
        ] * 3
        apart = observe(host)
    for phase in apart["phases"]:
        assert not any(phase["received"].values())
        assert phase["runs"]["drop_bytes"] == sum(phase["sent"])


@pytest.mark.parametrize("kind", ["tcp4", "udp4", "unix_stream", "unix_dgram"])
def test_a_program_that_duplicates_one_byte(kind: str) -> None:
    """One byte too many is seen on a stream and in a datagram."""
    with open_host(programs={"sk_skb_redirect_map": "duplicate"}) as host:
        byte, kilobyte, _ = observe(host, **{"in": kind})["phases"]
    assert [segment for message in byte["received"]["out_peer"] for segment in message] == [[0, 1], [0, 1]]
    assert kilobyte["received"]["out_peer"] == [[[0, 1024]]]


def test_everything_twice() -> None:
    """Duplicates are seen in every phase although the scenario was not told of them."""
    with open_host(DOUBLES) as host:
        seen = ask(host, "planted", fault="twice", cases=[CASE])
    for phase in seen["phases"]:
        arrived = phase["received"]["out_peer"]
        assert len(arrived) == 2 * len(phase["sent"])
        assert arrived[0::2] == arrived[1::2]
        assert phase["settled"]


@pytest.mark.parametrize("out", ["unix_dgram", "tcp6"])
def test_two_messages_swapped(out: str) -> None:
    """A changed order is seen in datagrams and in a stream."""
    with open_host(DOUBLES) as host:
        seen = ask(host, "planted", fault="swapped", cases=[CASE | {"out": out}])
    arrived = [segment for message in seen["phases"][2]["received"]["out_peer"] for segment in message]
    assert arrived[:3] == [[0, 1], [1501, 2], [1, 1500]]
    assert sum(length for _, length in arrived) == 8189


@pytest.mark.parametrize(("fault", "arrives"), [("half", 512), ("none", 0)])
def test_lost_bytes_are_waited_for_and_then_reported_missing(fault: str, arrives: int) -> None:
    """A loss costs the time of grace in each phase, not the deadline, and the kernel is still said to be at rest."""
    with open_host(DOUBLES) as host:
        observe(host)
        begin = time.monotonic()
        seen = ask(host, "planted", fault=fault, grace=0.1, cases=[CASE | {"in": "unix_stream"}])
        seconds = time.monotonic() - begin
    kilobyte = seen["phases"][1]
    assert kilobyte["received"]["out_peer"] == ([[[0, arrives]]] if arrives else [])
    assert all(phase["settled"] for phase in seen["phases"])
    assert 0.3 < seconds < 2.0


def test_an_end_is_reported_once() -> None:
    """Each phase reports one end of the stream, however often the scenario reads."""
    with open_host(DOUBLES) as host:
        seen = ask(host, "planted", fault="ended", grace=0.05, cases=[CASE | {"out": "unix_stream"}])
    assert [phase["received"]["out_peer"] for phase in seen["phases"]] == [["eof"]] * 3


def test_bytes_from_elsewhere() -> None:
    """Bytes that were not sent in this phase are shown as they are, beside those that were."""
    with open_host(DOUBLES) as host:
        seen = ask(host, "planted", fault="stray", cases=[CASE | {"in": "unix_stream", "out": "unix_stream"}])
    assert seen["phases"][0]["received"]["out_peer"] == [[[0, 1]]]
    arrived = [segment for message in seen["phases"][1]["received"]["out_peer"] for segment in message]
    assert sorted(arrived, key=str) == sorted([[0, 1024], b"stray".hex()], key=str)


def test_a_kernel_that_does_not_come_to_rest() -> None:
    """If a fence does not return, the phase is reported as not settled, and the next case has new fences."""
    with open_host(DOUBLES) as host:
        seen = ask(host, "planted", fault="stuck", cases=[CASE])
        next_case = observe(host)
    assert not any(phase["settled"] for phase in seen["phases"])
    assert seen["phases"][1]["received"]["out_peer"] == [[[0, 1024]]]
    assert all(phase["settled"] for phase in next_case["phases"])
