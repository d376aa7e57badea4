# SPDX-License-Identifier: GPL-2.0-only
"""The suite's own speed: measured in yardsticks, compared with the stored figures, and never a reason to fail."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConformError, UsageError
from conformance.cli import main, parse
from conformance.commands import benchmark as module
from conformance.commands.benchmark import MEASURES, benchmark, chosen, growths
from conformance.run import figures
from conformance.run.figures import Figures, compared, read, write
from conformance.run.yardstick import Timed, look, timed, work

KEPT = Figures(cpus=2, yardstick=0.25, ratios={"one": 4.0, "redirect": 40.0, "broken": 100.0})


def test_a_run_is_measured_between_two_looks() -> None:
    """A machine that is slow just then slows the yardstick as well: the ratio stays."""
    looks = iter([0.5, 1.5])
    found = timed(lambda: (4.0, 64.0), lambda: next(looks))

    assert (found.seconds, found.yardstick, found.ratio, found.memory) == (4.0, 1.0, 4.0, 64.0)
    assert not list(looks)


def test_one_slow_measurement_is_ignored() -> None:
    """Of three measurements the median counts."""
    looks = iter([0.2, 9.0, 0.3])
    assert look(lambda: next(looks)) == 0.3


def test_the_yardstick_is_fixed_work() -> None:
    """It takes some time, and about the same twice."""
    first, second = min(work(), work()), min(work(), work())
    assert 0.01 < first < 10
    assert 0.3 < first / second < 3


def test_what_got_slower_is_said() -> None:
    """A slowdown of more than a tenth is reported with both figures; a tenth is not."""
    now = Figures(2, 0.3, {"one": 5.0, "redirect": 43.9, "broken": 80.0, "new": 1.0})
    assert list(compared(KEPT, now)) == [
        "slower by more than a tenth: one 25% (4.00, now 5.00 yardsticks)",
        "faster by more than a tenth: broken 20% (100.00, now 80.00 yardsticks)",
        "no stored figure for: new",
    ]
    assert list(compared(KEPT, Figures(2, 0.3, {"one": 4.3}))) == ["nothing changed by more than a tenth: one"]


def test_another_machine_is_named() -> None:
    """Figures of a machine with another number of CPUs are not compared."""
    first, *_ = compared(KEPT, Figures(4, 0.2, {"one": 4.0}))
    assert first == "the stored figures were measured on 2 CPUs, these on 4: compare with care"


def test_figures_survive(tmp_path: Path) -> None:
    """Stored figures can be read; a figure that was not measured this time is kept."""
    path = tmp_path / "benchmark.toml"
    assert read(path) == Figures()
    write(KEPT, path)
    assert read(path) == KEPT
    write(read(path).updated(Figures(4, 0.5, {"one": 3.0})), path)
    assert read(path) == Figures(4, 0.5, {"one": 3.0, "redirect": 40.0, "broken": 100.0})


@pytest.mark.parametrize(
    "text",
    ["cpus = 'two'", "cpus = -1", "ratio = 3", "[ratio]\none = 'fast'", "[ratio]\none = -1.0", "[ratio]\none = nan",
     "[ratio]\none = true", "other = 1", "one = ", "yardstick = inf", "\xff"],
)  # fmt: skip
def test_figures_that_make_no_sense(text: str, tmp_path: Path) -> None:
    """They are refused in a sentence that names the figure."""
    path = tmp_path / "benchmark.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"benchmark\.toml does not hold figures"):
        read(path)


def test_the_figures_kept_are_readable() -> None:
    """Every stored figure belongs to an existing measure."""
    kept = read()
    assert kept.ratios.keys() <= {measure.name for measure in MEASURES}


def test_every_measure_is_a_run() -> None:
    """The command line has the options of each."""
    for measure in MEASURES:
        assert parse(["run", *measure.arguments]).command == "run"
    known = [measure.name for measure in chosen([], quick=False)]
    assert known == [measure.name for measure in MEASURES]
    assert {measure.name for measure in chosen([], quick=True)} < set(known)
    assert [measure.name for measure in chosen(["broken", "one"], quick=False)] == ["one", "broken"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--only", "nothing"], "there is no measure named nothing"), (["--runs", "0"], "--runs")],
)
def test_what_cannot_be_measured(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown measure and no runs are refused before anything runs."""
    assert main(["benchmark", *arguments]) == 128
    assert sentence in capsys.readouterr().err


def test_growth() -> None:
    """The cost of one more kernel is the difference, divided by their number."""
    found = {"select": [Timed(1.0, 0.5)], "select_five": [Timed(3.0, 0.5)], "one": [Timed(1.0, 0.5)]}
    assert growths(found) == ["selecting: 2.00 s more for 4 more kernels, 0.5000 s or 1.0000 yardsticks each"]


@pytest.fixture(name="runs")
def fixture_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """Make every measure take ten yardsticks, and record which were taken."""
    taken: list[tuple[str, str]] = []

    def once(measure: Any, label: str) -> tuple[float, float]:
        taken.append((measure.name, label))
        return 10.0, 1.0

    monkeypatch.setattr(module, "_once", once)
    monkeypatch.setattr(module, "timed", lambda measure: timed(measure, lambda: 1.0))
    monkeypatch.setattr(figures, "PATH", tmp_path / "benchmark.toml")
    return taken


def _options(*arguments: str) -> argparse.Namespace:
    return parse(["benchmark", *arguments])


def test_slower_is_no_failure(runs: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    """The command reports it and exits 0; each measure is warmed up once, and nothing is stored without --save."""
    figures.write(Figures(0, 1.0, {"one": 5.0}), figures.PATH)
    assert benchmark(_options("--only", "one", "--runs", "2")) == 0

    assert runs == [("one", "warm-up"), ("one", "0"), ("one", "1")]
    assert "slower by more than a tenth: one 100%" in capsys.readouterr().out
    assert figures.read(figures.PATH).ratios == {"one": 5.0}


def test_saving(runs: list[tuple[str, str]]) -> None:
    """With --save the new figures are stored, together with those that were not measured."""
    figures.write(Figures(0, 1.0, {"one": 5.0, "five": 7.0}), figures.PATH)
    benchmark(_options("--quick", "--runs", "1", "--save"))

    kept = figures.read(figures.PATH).ratios
    quick = {measure.name: 10.0 for measure in module.MEASURES if measure.quick}
    assert kept == {**quick, "five": 7.0}
    assert "five" not in quick


def test_a_run_that_fails_is_an_error() -> None:
    """A measure with another exit code is an error with its output, and is not timed."""
    wrong = module.Measure("wrong", "a run that is refused", ("--kernel", "nothing:1"))
    with pytest.raises(ConformError, match="the run of the measure 'wrong' exited with 128"):
        module._once(wrong, "0")
