# SPDX-License-Identifier: GPL-2.0-only
"""The forecast of a run's remaining time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common import cache
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.report.forecast import Forecast, remember
from conformance.report.screen import RunProgress, screen
from conformance.report.style import Style
from tests.conformance import report_runs


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def slow_at_the_end() -> Run:
    """Make a run of two workers whose last 36 cases take ten times as long as all others together."""
    run = report_runs.healthy()
    cases, at = [], 0.0
    for number, case in enumerate(run.cases["debian-6.12"]):
        seconds = 0.01 if number < 700 else 7 * 10 / 36
        at += seconds / 2
        cases.append(replace(case, seconds=seconds, at=round(at, 3)))
    run.cases["debian-6.12"] = cases
    return run


def until(run: Run, done: int) -> Run:
    """Return the run as it was when `done` cases had their verdicts."""
    return replace(run, cases={slug: cases[:done] for slug, cases in run.cases.items()})


def forecast_for(run: Run, *others: str) -> Forecast:
    """Make a forecast of a run of the same cases, of other kernels too."""
    planned = report_runs.planned_for(run)
    return Forecast({**planned, **dict.fromkeys(others, planned["debian-6.12"])})


def test_without_a_last_run_there_is_no_forecast() -> None:
    """Cases of one group differ fivefold: what the first take says nothing about the others."""
    run = report_runs.healthy()
    forecast = forecast_for(run)
    assert forecast.left(until(run, 5), 1.0) is None
    assert forecast.left(until(run, 184), 10.0) is None


def test_the_last_run_tells_which_cases_take_long() -> None:
    """A forecast is right from the start, although most of the time goes to the last few cases."""
    run = slow_at_the_end()
    remember(run)
    forecast = forecast_for(run)
    assert forecast.left(until(run, 0), 0.0) == pytest.approx(38.5, abs=0.1)
    assert forecast.left(until(run, 700), 3.5) == pytest.approx(35.0, abs=0.1)
    assert forecast.left(until(run, 700), 7.0) == pytest.approx(57.6, abs=0.1), "a slower machine"


def test_some_of_the_cases_take_their_share() -> None:
    """The forecast of a run uses the cases that it shares with the last run."""
    run = slow_at_the_end()
    remember(run)
    assert forecast_for(until(run, 700)).left(until(run, 0), 0.0) == pytest.approx(3.5, abs=0.1)


def test_what_is_known_of_other_cases_stays() -> None:
    """A later run of some of the cases adds to what is known, and a handful of cases is not worth the write."""
    run = slow_at_the_end()
    remember(until(run, 50))
    assert not list(cache.root().glob("durations/*"))
    remember(run)
    quick = [
        replace(case, seconds=0.001, at=number / 100) for number, case in enumerate(run.cases["debian-6.12"][:200])
    ]
    remember(replace(run, cases={"debian-6.12": quick}))
    weights = forecast_for(run)._weights["debian-6.12"]
    assert weights[quick[0].id] == 0.001
    assert weights[run.cases["debian-6.12"][-1].id] > 1.0


def test_a_kernel_nobody_knows_has_no_forecast() -> None:
    """Real kernels differ tenfold, because some hang where others answer; one that does not boot takes no time."""
    run = slow_at_the_end()
    remember(run)
    forecast = forecast_for(run, "debian-5.10")
    assert forecast.left(until(run, 0), 0.0) is None
    assert forecast.left(until(run, 700), 3.5) is None
    run.add(replace(report_runs.KERNEL_5_10, error="it does not boot"))
    assert forecast.left(until(run, 0), 0.0) == pytest.approx(38.5, abs=0.1)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"pace": 1, "cases": [1]}', b'{"pace": "x", "cases": {}}'])
def test_a_damaged_file_misleads_nobody(damage: bytes) -> None:
    """A damaged or foreign file of durations is ignored."""
    run = slow_at_the_end()
    remember(run)
    (cache.root() / "durations" / "debian-6.12.json").write_bytes(damage)
    assert forecast_for(run).left(until(run, 0), 0.0) is None


def test_the_last_line_of_the_screen_has_the_forecast() -> None:
    """The last line of the screen has the elapsed time, the finished cases and the remaining time."""
    run = report_runs.healthy()
    for done, state, said in (
        (184, RunProgress(9.6, 30.2), "0:10  184 of 736 cases, about 0:30 left"),
        (0, RunProgress(0.4), "0:00  0 of 736 cases"),
        (736, RunProgress(61.0, 0.0), "1:01  736 of 736 cases"),
    ):
        assert screen(until(run, done), state, 80, 50, Style())[-1] == said


def history() -> Run:
    """Make a whole run in which cases of one group take fifty times as long as those of the other."""
    run = slow_at_the_end()
    run.cases = {
        slug: [replace(case, id=case.id if number < 700 else f"leaks/{case.name}") for number, case in enumerate(cases)]
        for slug, cases in run.cases.items()
    }
    return run


def planned_of(run: Run) -> dict[str, frozenset[str]]:
    """Return the ids of the cases of each kernel."""
    return {slug: frozenset(case.id for case in cases) for slug, cases in run.cases.items()}


@pytest.mark.parametrize("sitting", [0, 100, 400, 710])
@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.INFRA])
def test_a_resumed_run_counts_what_it_does_itself(sitting: int, verdict: Verdict) -> None:
    """After a tenth of the remaining cases the forecast is within a factor of 2; infra cases are judged again."""
    whole = history()
    remember(whole)
    cases = whole.cases["debian-6.12"]
    old = [replace(case, verdict=verdict, at=0.001) for case in cases[:sitting]]
    before = replace(whole, cases={"debian-6.12": old})
    rest = cases[sitting:] if verdict is Verdict.PASS else cases
    forecast = Forecast(planned_of(whole), before)
    total = sum(case.seconds for case in rest) / 2
    elapsed, new = 0.0, list[CaseEvent]()
    for case in rest:
        elapsed += case.seconds / 2
        new.append(replace(case, at=100 + elapsed))
        judged = {case.id: case for case in (*old, *new)}
        left = forecast.left(replace(whole, cases={"debian-6.12": list(judged.values())}), elapsed)
        if total / 10 < elapsed < 0.99 * total:
            assert left is not None
            assert (total - elapsed) / 2 < left < (total - elapsed) * 2


@pytest.mark.parametrize("slowness", [0.3, 1.0, 4.0])
def test_of_several_kernels_each_has_its_own_speed(slowness: float) -> None:
    """A kernel that is slower than in its last run is slower for the rest of its cases, too."""
    known = history()
    remember(known)
    cases = known.cases["debian-6.12"]
    remember(replace(known, cases={"other": [replace(case, kernel="other") for case in cases]}))
    planned = {**planned_of(known), "other": planned_of(known)["debian-6.12"]}
    forecast = Forecast(planned)
    other = [replace(case, kernel="other", seconds=case.seconds * slowness) for case in cases]
    for done in (70, 400, 700):
        elapsed = sum(case.seconds for case in (*cases, *other[:done])) / 2
        left = forecast.left(replace(known, cases={"debian-6.12": cases, "other": other[:done]}), elapsed)
        true = sum(case.seconds for case in other[done:]) / 2
        assert left is not None
        assert true / 2 < left < true * 2


def test_cases_of_several_groups_have_no_forecast_without_a_last_run() -> None:
    """Without a run to go by, cases of several groups have no forecast: they differ a hundredfold."""
    whole = history()
    forecast = Forecast(planned_of(whole))

    assert forecast.left(until(whole, 600), 3.0) is None
