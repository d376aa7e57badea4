# SPDX-License-Identifier: GPL-2.0-only
"""The known deviations of a run, each told once."""

from __future__ import annotations

from dataclasses import replace

from conformance.model import Verdict
from conformance.report.events import CaseEvent
from conformance.report.known import known_deviations
from conformance.report.known import reasons_of
from tests.conformance import report_runs


def case(kernel: str, name: str, deviation: str, reason: str) -> CaseEvent:
    """Return a case that shows deviations."""
    some = report_runs.healthy().cases["debian-6.12"][0]
    return replace(
        some, kernel=kernel, id=f"teardown/{name}", verdict=Verdict.XFAIL, deviation=deviation, reason=reason
    )


DEAF = "known deviation deaf-1: recv(2) is deaf (since 5.10)"
DEAF_TOO = 'known deviation deaf-2: recv(2) is deaf (c5d2177a72a1 "bpf: Fix (some) race", since 6.1.32); CVE-1'
LOST = "known deviation lost-unix: bytes are gone (since 5.15)"


def test_rows_that_differ_in_a_number_are_one_deviation() -> None:
    """What is wrong is said once, with every commit and link and no version; each case counts for all it shows."""
    cases = [
        case("a", "long-name", "deaf-1", DEAF),
        case("a", "name", "deaf-2", DEAF_TOO),
        case("b", "n", "deaf-2 lost-unix", f"{DEAF_TOO}; {LOST}"),
    ]
    deaf, lost = known_deviations(cases)

    assert (deaf.name, deaf.reason) == ("deaf", 'recv(2) is deaf (in part c5d2177a72a1 "bpf: Fix (some) race"); CVE-1')
    assert (lost.name, lost.reason) == ("lost-unix", "bytes are gone")
    assert deaf.by_kernel() == {"a": 2, "b": 1}
    assert lost.by_kernel() == {"b": 1}


def test_the_example_shows_little_else() -> None:
    """A case that shows nothing but the deviation is better than a shorter one."""
    cases = [case("a", "n", "lost-unix deaf-1", f"{LOST}; {DEAF}"), case("a", "longer", "lost-unix", LOST)]
    deaf, lost = known_deviations(cases)

    assert (deaf.example, lost.example) == ("teardown/n", "teardown/longer")


def test_what_a_list_excuses_has_no_name() -> None:
    """Its reason is all there is, and another reason is another row."""
    found = known_deviations([case("a", "n", "", "known splat: x"), case("a", "m", "", "known splat: y")])

    assert [(each.name, each.reason) for each in found] == [("", "known splat: x"), ("", "known splat: y")]


def test_a_reason_of_another_form_is_told_whole() -> None:
    """A log of another suite may say it otherwise."""
    told = case("a", "n", "late", "late: a; b (c)")

    assert list(reasons_of(told)) == [("late", "late: a; b (c)")]
    assert [each.reason for each in known_deviations([told])] == ["late: a; b (c)"]
