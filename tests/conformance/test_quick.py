# SPDX-License-Identifier: GPL-2.0-only
"""`--quick`: everything the tables say of a kernel is decided by a case, and no case is chosen without need."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import pytest

from conformance.groups import GROUPS, cases
from conformance.groups.redirect.expectation import expected_outcome
from conformance.judge import steps
from conformance.judge.defects import deviations
from conformance.judge.lists import Lists, read_lists
from conformance.judge.needs import unmet
from conformance.model import KernelFacts, Verdict
from conformance.report.findings import quick
from conformance.report.style import Style
from conformance.report.text import report_lines
from conformance.run.quick import QuickSelection, choices, chosen, decided_by, quick_choice
from tests.conformance import report_runs
from tests.conformance.observations import facts

VERSIONS = ("5.10.262", "6.1.192", "6.12.117", "6.18.60", "7.3.4")
ASKED = tuple(case for case in cases() if case.group != "hammer")
BY_ID = {case.id: case for case in ASKED}


@cache
def choice_for(version: str) -> QuickSelection:
    """Choose among all cases."""
    return chosen(ASKED, facts(version))


@cache
def rows_of(case_id: str, version: str) -> frozenset[tuple[str, str]]:
    """Return file and id of the rows that speak of a case, by asking the tables themselves."""
    case, kernel = BY_ID[case_id], facts(version)
    if (need := unmet(case, kernel)) is not None:
        return frozenset({(need.file, need.row)})
    known = [row.rule for row in deviations(case, kernel.version) if not (row.racy and row.verdict is Verdict.HANG)]
    if case.group == "redirect":
        known += [rule for _, rule in expected_outcome(case, kernel).rows]
    else:
        known += steps.table(case.group).expected(case.params, kernel.version).values()
    return frozenset((rule.file, rule.id) for rule in known)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_row_that_can_be_decided_is(version: str) -> None:
    """Whatever row speaks of any case on a kernel speaks of a chosen one; so does each step of each group."""
    ids = choice_for(version).ids
    wanted = frozenset().union(*(rows_of(case.id, version) for case in ASKED))

    assert frozenset().union(*(rows_of(name, version) for name in ids)) == wanted
    assert steps_of(ids, version) == steps_of({case.id for case in ASKED}, version)


def steps_of(ids: frozenset[str] | set[str], version: str) -> set[tuple[str, str]]:
    """Return the steps that such cases answer, with their group."""
    kernel = facts(version)
    return {
        (case.group, step)
        for case in ASKED
        if case.id in ids and case.group != "redirect" and unmet(case, kernel) is None
        for step in steps.table(case.group).expected(case.params, kernel.version)
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_no_case_is_chosen_in_vain(version: str) -> None:
    """Without any one of them something goes undecided."""
    kernel, choice = facts(version), choice_for(version)
    found = {case.id: decided_by(case, kernel) for case in ASKED if case.id in choice.ids}
    everything = frozenset().union(*found.values())

    assert everything == frozenset().union(*(decided_by(case, kernel) for case in ASKED))
    for left_out in found:
        assert frozenset().union(*(each for name, each in found.items() if name != left_out)) < everything
    assert len(choice.ids) < len(ASKED) / 6


def test_every_kind_and_every_group_is_asked() -> None:
    """The choice includes every kind of socket and every group."""
    picked = [case for case in ASKED if case.id in choice_for("6.12.117").ids]

    assert {case.group for case in picked} == GROUPS.keys() - {"hammer"}
    for group in ("redirect", "insert", "attach", "teardown", "steer", "enrol"):
        for name in ("kind", "in", "out", "map"):
            of = {case.params.get(name) for case in ASKED if case.group == group}
            assert {case.params.get(name) for case in picked if case.group == group} >= of - {None}


@pytest.mark.parametrize("version", VERSIONS)
def test_no_case_that_may_hang_is_chosen_for_that(version: str) -> None:
    """A case that may hang costs its whole deadline and decides nothing, so another case is chosen."""
    kernel = facts(version)
    for name in choice_for(version).ids:
        hangs = [row for row in deviations(BY_ID[name], kernel.version) if row.racy and row.verdict is Verdict.HANG]
        assert not hangs, name


def test_the_choice_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second time it costs no more than reading; another kernel or another case is another choice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    some, kernel = ASKED[:200], facts("6.12.117")
    first = quick_choice(some, kernel)
    monkeypatch.setattr("conformance.run.quick.chosen", lambda among, facts: QuickSelection(frozenset(), 0, 0))

    began = time.process_time()
    assert quick_choice(some, kernel) == first
    assert time.process_time() - began < 0.5
    assert quick_choice(some[1:], kernel).among == 0
    assert quick_choice(some, facts("6.12.118")).among == 0
    assert quick_choice(some, KernelFacts(kernel.version, {"INET": "y"})).among == 0


def test_a_choice_that_cannot_be_read_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A damaged or foreign file in the cache is replaced."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    some, kernel = ASKED[:50], facts("6.12.117")
    first = quick_choice(some, kernel)
    (path,) = (tmp_path / "sockmap-conformance" / "quick").iterdir()

    for text in ("", "{", "[]", '{"ids": 7, "among": 1, "rows": 1}'):
        path.write_text(text)
        assert quick_choice(some, kernel) == first


def test_a_denied_case_is_not_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A denied case decides nothing, so another one is chosen; the hammer is chosen only with --stress."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("conformance.run.quick.cases", lambda: (*ASKED[:100], *GROUPS["hammer"].cases()[:3]))
    kernel = {"k": facts("6.12.117")}
    plain = choices(kernel, Lists(), stress=False)["k"]
    victim = min(plain.ids)
    (tmp_path / "deny").write_text(f"{victim} # breaks; link=https://example.org; kernel=all; until=2999-01-01\n")
    lists = read_lists([], [str(tmp_path / "deny")], [], universe=[case.id for case in ASKED])

    assert victim not in choices(kernel, lists, stress=False)["k"].ids
    assert not [name for name in plain.ids if name.startswith("hammer/")]
    assert [name for name in choices(kernel, Lists(), stress=True)["k"].ids if name.startswith("hammer/")]


def test_a_report_says_what_was_left_out() -> None:
    """How many cases of how many decide how many rows, and the command for all of them."""
    run = report_runs.healthy()
    assert quick(run) == []
    command = ("./conform", "run", "--quick", "--kernel", "debian:6.12")
    choice = {"debian-6.12": {"chose": 212, "among": 3954, "rows": 431}}
    object.__setattr__(run.start, "command", command)
    object.__setattr__(run.start, "quick", choice)

    assert quick(run) == [
        "quick: 212 of 3954 cases check all 431 table rows; run all with: ./conform run --kernel debian:6.12"
    ]
    assert " ".join(report_lines(run)).count("quick: 212 of 3954 cases check all 431 table rows") == 1


@pytest.mark.parametrize("results", [("--results", "out"), ("--results=out",)])
def test_the_command_for_all_cases_works_when_it_is_pasted(results: tuple[str, ...]) -> None:
    """Not with the folder of the run with --quick, which holds results; by the name that the user typed."""
    run = report_runs.healthy()
    object.__setattr__(run.start, "command", ("./conform", "run", *results, "--quick", "-q"))
    object.__setattr__(run.start, "quick", {"debian-6.12": {"chose": 212, "among": 3954, "rows": 431}})

    assert quick(run)[0].endswith("; run all with: ./conform run -q")
    folded = " ".join(report_lines(run, Style(program="../conform")))
    assert "; run all with: ../conform run -q" in " ".join(folded.split())
