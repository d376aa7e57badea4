# SPDX-License-Identifier: GPL-2.0-only
"""The known defects of a run, each reported once."""

from __future__ import annotations

from dataclasses import replace

from conformance.model import Ground, Source, Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.known import defects_of, known_defects
from tests.conformance import report_runs


def case(kernel: str, name: str, *grounds: Ground) -> CaseEvent:
    """Return a case that shows defects."""
    some = report_runs.healthy().cases["debian-6.12"][0]
    deviation = " ".join(ground.row for ground in grounds if ground.source is Source.DEFECT)
    fields = {"verdict": Verdict.XFAIL, "deviation": deviation, "reason": "a sentence", "grounds": grounds}
    return replace(some, kernel=kernel, id=f"teardown/{name}", **fields)  # type: ignore[arg-type]


def defect(row: str, reason: str, **more: str) -> Ground:
    """Return a row about a defect."""
    return Ground(file=f"expect/{row}.toml", row=row, source=Source.DEFECT, reason=reason, **more)  # type: ignore[arg-type]


DEAF = defect("deaf", "recv(2) is deaf")
DEAF_TOO = replace(DEAF, commit="c5d2177a72a1", subject="bpf: Fix (some) race", link="CVE-1")
LOST = defect("lost-unix", "bytes are gone; all of them (since ever); really")
PROMISE = replace(DEAF, source=Source.PROMISE, row="receive")
LINE = Ground(file="splats", row="line 1", source=Source.LIST, reason="x")


def test_variants_of_one_row_are_one_defect() -> None:
    """A defect is described once, with every commit and link and no version; a case counts for each defect it shows."""
    cases = [
        case("a", "long-name", DEAF, PROMISE),
        case("a", "name", DEAF_TOO, PROMISE),
        case("b", "n", DEAF_TOO, LOST, PROMISE),
    ]
    deaf, lost = known_defects(cases)

    assert deaf.name == "deaf"
    assert deaf.reason == 'recv(2) is deaf (for some cases c5d2177a72a1 "bpf: Fix (some) race"); CVE-1'
    assert (lost.name, lost.reason) == ("lost-unix", LOST.reason)
    assert (deaf.places, lost.places) == (("expect/deaf.toml: deaf",), ("expect/lost-unix.toml: lost-unix",))
    assert deaf.by_kernel() == {"a": 2, "b": 1}
    assert lost.by_kernel() == {"b": 1}


def test_the_example_shows_little_else() -> None:
    """A case that shows nothing but the defect is better than a shorter one."""
    cases = [case("a", "n", LOST, DEAF), case("a", "longer", LOST, PROMISE)]
    deaf, lost = known_defects(cases)

    assert (deaf.example, lost.example) == ("teardown/n", "teardown/longer")


def test_what_a_list_excuses_has_no_name() -> None:
    """A splat that a list excuses has no name, only a reason; each reason is listed separately."""
    found = known_defects([case("a", "n", PROMISE, LINE), case("a", "m", replace(LINE, reason="y"))])

    assert [(each.name, each.reason) for each in found] == [("", "x"), ("", "y")]


def test_a_log_without_rows_has_names_and_a_reason() -> None:
    """The log of an older suite has names of defects and one sentence for all, or a list's sentence."""
    named = replace(case("a", "n", DEAF, LOST), grounds=())
    listed = replace(case("a", "n"), reason="known splat: x")

    assert [(each.row, each.reason) for each in defects_of(named)] == [
        ("deaf", "a sentence"),
        ("lost-unix", "a sentence"),
    ]
    assert [(each.name, each.reason) for each in known_defects([listed])] == [("", "known splat: x")]


def test_a_defect_that_was_reworded_is_one() -> None:
    """Logs of two suites may word a defect differently; the id identifies it."""
    (deaf,) = known_defects([case("a", "n", DEAF), case("b", "n", replace(DEAF, reason="recv(2) hears nothing"))])

    assert deaf.reason == "recv(2) is deaf; recv(2) hears nothing"
