# SPDX-License-Identifier: GPL-2.0-only
"""A case with a short grace gives up early on data that cannot be late, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conformance.guestlib import grace
from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

CASE = {"map": "sockmap", "mode": "ingress-to-egress", "in": "unix_dgram", "out": "unix_dgram", "layout": "plain"}
GRACE = 1.0
LIMIT = 0.05
CODE = """
import threading, time
from conformance.guestlib import grace

def limited(arguments):
    original, sends = redirect._Flow._send, getattr(Faults, arguments["fault"])
    timers, numbers = [], iter(range(1000))
    def send(self, message):
        if sends(next(numbers), message, self, timers):
            return original(self, message)
        self._accepted += len(message)
        return len(message)
    redirect._Flow._send, redirect.GRACE = send, arguments["grace"]
    begin = time.monotonic()
    try:
        found = grace.limited(arguments["case"])
    finally:
        redirect._Flow._send = original
        for timer in timers:
            timer.join()
    return found | {"seconds": time.monotonic() - begin, "after": grace.limit() == float("inf")}

class Faults:
    # Each returns whether a message is sent normally, by its number in the case.
    def nothing(number, message, flow, timers):
        return True

    def some(number, message, flow, timers):
        return number % 7 != 2

    def most(number, message, flow, timers):
        return number < 4 or number == 17

    def tail(number, message, flow, timers):
        return number != 17

    def all(number, message, flow, timers):
        return False

    def slow(number, message, flow, timers):
        timers.append(threading.Timer(0.3, flow._setup.ends["out"].send, [message]))
        timers[-1].start()
        return False
"""


@pytest.fixture(name="host", scope="module")
def fixture_host() -> Iterator[Session]:
    """This host."""
    with open_host(CODE) as session:
        ask(session, "many", cases=[CASE])
        yield session


def limited(host: Session, fault: str, limit: float = LIMIT, **changes: str) -> Any:
    """Run a redirect case with a short grace; without it, lost data takes GRACE per phase."""
    case = (
        CASE | changes | {grace.SCENARIO: "conformance.groups.redirect.guest.scenario:run", grace.SECONDS: str(limit)}
    )
    return ask(host, "limited", fault=fault, case=case, grace=GRACE)


def arrived(seen: Any, role: str = "out_peer") -> list[int]:
    """Count the messages that a role received in each phase."""
    return [len(phase["received"][role]) for phase in seen["observation"]["phases"]]


def test_a_case_that_loses_nothing_is_not_cut(host: Session) -> None:
    """The result equals that with the full grace, and the limit ends with the case."""
    seen = limited(host, "nothing")

    assert (arrived(seen), seen["cut"], seen["after"]) == ([1, 1, 16], 0, True)


def test_overtaken_messages_are_not_waited_for(host: Session) -> None:
    """If the last message arrived, missing earlier ones are lost: the case waits only for the short grace."""
    seen = limited(host, "some")

    assert (arrived(seen), seen["cut"]) == ([1, 1, 13], 1)
    assert seen["seconds"] < GRACE


@pytest.mark.parametrize(("fault", "cut"), [("tail", 0), ("all", 2)])
def test_what_may_be_late_is_waited_for(host: Session, fault: str, cut: int) -> None:
    """A missing last message of the case gets the full grace."""
    seen = limited(host, fault)

    assert seen["cut"] == cut
    assert seen["seconds"] > GRACE
    assert all(phase["settled"] for phase in seen["observation"]["phases"])


def test_the_last_phase_may_be_slow(host: Session) -> None:
    """All data is 0.3 s late: the last phase waits for it, and late data of earlier phases is stray there."""
    seen = limited(host, "slow")

    *before, burst = seen["observation"]["phases"]
    assert [phase["received"]["out_peer"] for phase in before] == [[], []]
    strays = [part for message in burst["received"]["out_peer"] for part in message if isinstance(part, str)]
    assert len(strays) == 2
    assert seen["cut"] == 2


def test_nothing_comes_into_the_next_case(host: Session) -> None:
    """Late data of a case cannot reach the sockets of the next one."""
    limited(host, "all")
    seen = limited(host, "nothing")

    assert (arrived(seen), seen["cut"]) == ([1, 1, 16], 0)


def test_each_message_that_comes_back_is_followed(host: Session) -> None:
    """If messages are sent one by one, an overtaken one is given up early, and the last one gets the full grace."""
    seen = limited(host, "some", layout="peer")

    assert seen["cut"] == 3
    assert seen["seconds"] < GRACE


@pytest.mark.parametrize("limit", [0.0, -1.0, 5.0, float("nan"), float("inf")])
def test_a_limit_has_limits(host: Session, limit: float) -> None:
    """An invalid limit is refused."""
    with pytest.raises(AssertionError, match=r"a limit is 0\.01 to 1\.0 seconds"):
        limited(host, "nothing", limit=limit)


def test_a_phase_that_loses_much_waits_once(host: Session) -> None:
    """If messages are sent one by one, the first lost one gets the full grace, and so does the end of the phase."""
    seen = limited(host, "most", limit=1.0, layout="peer")

    assert 2 * GRACE < seen["seconds"] < 4 * GRACE
