# SPDX-License-Identifier: GPL-2.0-only
"""The result of a case: equal for two tries of the same behaviour, different for two behaviours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conformance.compare.model import Opinion
from conformance.compare.try_result import try_result
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from tests.conformance.observations import case, flowed

CASE = case("sockmap-ingress-to-local-udp4-unix_dgram")
WARNING = "WARNING: CPU: 0 PID: {} at net/core/skmsg.c:7 sk_psock_backlog+0x1/0x2"


def event(verdict: Verdict = Verdict.PASS, **more: Any) -> CaseEvent:
    """Make the event of a redirect that was seen to be delivered."""
    made = CaseEvent(
        kernel="debian-6.12",
        group=CASE.group,
        name=CASE.name,
        id=CASE.id,
        verdict=verdict,
        params=CASE.params,
        observation=flowed("out"),
    )
    return replace(made, **more)


def splat(number: int) -> CaseEvent:
    """Make the event of a case that made the kernel warn."""
    line = {"sequence": number, "level": 4, "microseconds": number, "text": WARNING.format(number)}
    return event(Verdict.SPLAT, log=(line,))


def test_a_redirect_is_its_outcome() -> None:
    """The outcome's name counts, not the numbers in the observation."""
    assert dict(try_result(event()).answers) == {"outcome": "delivered"}


def test_expectations_only_annotate() -> None:
    """The same observation gives the same result, whatever was expected."""
    promised, wrong = try_result(event()), try_result(event(Verdict.FAIL))

    assert promised == wrong
    assert (promised.opinion, wrong.opinion) == (Opinion.PROMISED, Opinion.WRONG)


def test_what_is_no_outcome_says_how_it_misses_the_nearest() -> None:
    """A misdelivery is another result than a delivery, and names the socket."""
    symptom = try_result(event(Verdict.FAIL, observation=flowed("out_peer")))

    assert symptom != try_result(event())
    assert "misdelivered" in dict(symptom.answers)["outcome"]
    assert not any(letter.isdigit() for letter in dict(symptom.answers)["outcome"])


def test_a_splat_is_its_title() -> None:
    """Two tries with other process numbers are alike."""
    one, other = try_result(splat(7)), try_result(splat(8))

    assert one == other
    assert one.splat.startswith("WARNING")
    assert one.opinion is Opinion.WRONG


def test_steps_are_their_answers() -> None:
    """Only differing steps are shown."""
    one = try_result(event(group="insert", observation={"steps": {"insert": "ok", "lookup": "cookie"}}))
    other = try_result(event(group="insert", observation={"steps": {"insert": "EOPNOTSUPP", "lookup": "cookie"}}))

    assert one != other
    assert (one.beside(other), other.beside(one)) == ("insert ok", "insert EOPNOTSUPP")


def test_steps_that_only_one_has() -> None:
    """A step that only one side has is shown for both."""
    one = try_result(event(group="insert", observation={"steps": {"insert": "ok", "lookup": "cookie"}}))
    other = try_result(event(group="insert", observation={"steps": {"insert": "ok"}}))

    assert (one.beside(other), other.beside(one)) == ("lookup cookie", "lookup nothing")


@pytest.mark.parametrize("observation", [None, {}, {"phases": "nonsense"}, flowed("out"), flowed("out_peer")])
def test_what_the_harness_broke_is_not_judged(observation: Any) -> None:
    """A missing or unreadable observation is not an answer of the kernel."""
    broken = event(Verdict.INFRA, observation=observation, differences=("no machine: it is gone",))

    assert not try_result(broken).judged


def test_a_known_splat_is_still_one() -> None:
    """A list of known reports excuses a splat, but the result differs from one without it."""
    known = try_result(event(Verdict.XFAIL, reason="known splat: fixed in 6.13"))

    assert known != try_result(event())
    assert known.opinion is Opinion.WRONG


def test_a_skipped_case_was_not_asked() -> None:
    """A skip is not an answer of the kernel."""
    assert not try_result(event(Verdict.SKIP, observation=None, reason="CONFIG_UNIX is not set")).judged
