# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

CODE = """
import socket, time
from bpf.guest import syscall
from conformance.groups.redirect.guest.setup import RedirectSetup
from conformance.guestlib.fixture import Fixture

def fences(arguments):
    kind = arguments.get("kind")
    if kind == "tcp":
        syscall.ATTACH_TYPES["sk_skb_verdict"] = 1000
    quiesce.TIMEOUT = 0.05
    made = quiesce.Fences()
    try:
        return getattr(Tests, arguments["test"])(made)
    finally:
        made.close()

class Tests:
    def returns(made):
        return [made.backlog() for _ in range(200)]

    def stale(made):
        made._backlog[0].send(bytes(8))
        return [made.backlog(), made.backlog()]

    def lossy(made):
        # The kernel loses every other message, the first of each fence among them.
        class Sender:
            count = 0
            def send(self, token):
                self.count += 1
                return len(token) if self.count % 2 else sound.send(token)
        quiesce.TIMEOUT = 2.0
        sound, receiver = made._backlog
        made._backlog = Sender(), receiver
        begin = time.monotonic()
        return [made.backlog() for _ in range(10)] + [time.monotonic() - begin < quiesce.TIMEOUT]

    def cut(made):
        made._intake.close()
        return [made.backlog()]

    def cpu(made):
        return len(os.sched_getaffinity(0))

    def kind(made):
        return made._backlog[0].type == socket.SOCK_STREAM

def behind(arguments):
    # Redirected to many targets, hence many work items, then one fence: nothing may be missing after it.
    made = quiesce.Fences()
    params = {"map": "sockmap", "mode": "ingress-to-egress", "in": "unix_stream", "out": "unix_dgram"}
    params["layout"] = "plain"
    with Fixture() as fixture:
        setups = [RedirectSetup(params, fixture) for _ in range(50)]
        assert all(each.set_up() for each in setups)
        for each in setups:
            each.sender.send(b"x")
        made.backlog()
        seen = [len(traffic.drain(each.ends["out_peer"].fileno(), stream=False)) for each in setups]
    made.close()
    return seen
"""


@pytest.fixture(name="host", scope="module")
def fixture_host() -> Iterator[Session]:
    """This host."""
    with open_host(CODE) as session:
        yield session


def test_a_fence_that_gets_lost_is_sent_again(host: Session) -> None:
    """On a kernel that loses messages a fence still returns, and soon."""
    assert all(ask(host, "fences", test="lossy"))


@pytest.mark.parametrize("kind", ["newest", "tcp"])
def test_a_fence_comes_back(kind: str) -> None:
    """Two hundred times in a row, over UDP, and over TCP for kernels that need it."""
    with open_host(CODE) as host:
        assert all(ask(host, "fences", test="returns", kind=kind))
        assert kind != "tcp" or ask(host, "fences", test="kind")


def test_a_late_byte_is_not_taken_for_the_fence(host: Session) -> None:
    """Only the token just sent counts, whatever an earlier fence left."""
    assert ask(host, "fences", test="stale") == [True, True]


def test_a_fence_that_does_not_come_back_is_reported(host: Session) -> None:
    """A fence on a broken path ends after the timeout."""
    assert ask(host, "fences", test="cut") == [False]


def test_the_process_stays_on_one_cpu(host: Session) -> None:
    """One CPU has one queue of each kind, and the fence stands at the end of it."""
    assert ask(host, "fences", test="cpu") == 1


def test_data_queued_before_the_fence_has_arrived_after_it(host: Session) -> None:
    """Fifty redirects wait in fifty backlogs; after one fence all have been sent on."""
    for _ in range(20):
        assert ask(host, "behind") == [1] * 50
