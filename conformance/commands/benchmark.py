# SPDX-License-Identifier: GPL-2.0-only
"""`conform benchmark`: time the suite itself, in seconds against goals and in yardsticks against stored figures.

Every run is timed between two measurements of the yardstick, so that figures of another or a busy machine can be
compared. A measure that became slower by more than a tenth is reported, but is not an error: the machine may be shared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.errors import ConformError, ExitCode, UsageError
from common.say import say
from conformance.run import benchmark as guest
from conformance.run import figures
from conformance.run.figures import Figures
from conformance.run.memory import Peak
from conformance.run.provenance import suite_commit
from conformance.run.yardstick import Timed, timed

_ROOT = Path(__file__).resolve().parents[2]
_CASE = "redirect/sockmap-ingress-to-egress-tcp4-unix_stream"
_SPEC = "debian:6.12"
_FIVE = tuple(f"--kernel={spec}" for spec in ("debian:5.10", "debian:6.1", _SPEC, "debian:6.18", "debian:7.3"))
_ONE = (f"--kernel={_SPEC}",)
_REDIRECT = ("-n", "auto", "--case", "redirect")
_COLLECT = ("--", "--collect-only", "-q")
_SAMPLE = 0.05
"""Seconds between two samples of a run's memory."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing to time: its bar and stretch goal in seconds, 0 for none, and the arguments of `conform run`."""

    name: str
    """The key of its figure, and its name for --only."""
    title: str
    arguments: tuple[str, ...]
    bar: float = 0.0
    stretch: float = 0.0
    quick: bool = False
    """Whether it is cheap enough for every change to the suite."""
    fresh: bool = False
    """Whether each run makes a new template, by a new kernel command line."""
    module: str = "conformance"
    code: ExitCode = ExitCode.OK
    """The exit code of the run."""


MEASURES = (
    Measure("one", "one case, command to verdict", (*_ONE, "--case", _CASE), 0.9, 0.6, quick=True),
    Measure("quick", "the cases of --quick, one kernel", (*_ONE, "--quick"), 15.0, 8.0),
    Measure("redirect", "whole redirect matrix, one kernel", (*_ONE, *_REDIRECT), 25.0, 12.0),
    Measure("few", "a 28th of that matrix", (*_ONE, "--shard=1/28", *_REDIRECT), quick=True),
    Measure("seventh", "a seventh of that matrix", (*_ONE, "--shard=1/7", *_REDIRECT), quick=True),
    Measure("all", "every case, one kernel", (*_ONE, "-n", "auto"), 90.0, 60.0),
    Measure("five", "whole redirect matrix, five kernels", (*_FIVE, *_REDIRECT), 40.0, 30.0),
    Measure("template", "template of a new kernel, and one case", (*_ONE, "--case", _CASE), 15.0, 9.0, fresh=True),
    Measure(
        "broken", "redirect matrix, every seventh message lost", (*_ONE, *_REDIRECT), 90.0, 45.0,
        module="conformance.lossy", code=ExitCode.UNEXPECTED,
    ),
    Measure("select", "select every case, one kernel", (*_ONE, *_COLLECT), quick=True),
    Measure("select_five", "select every case, five kernels", (*_FIVE, *_COLLECT), quick=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Growth:
    """The growth of the cost from one measure to another with more kernels or cases."""

    title: str
    less: str
    more: str
    few: float
    many: float
    unit: str


_GROWTH = (
    Growth("selecting", "select", "select_five", 1, 5, "kernel"),
    Growth("judging the redirect matrix", "redirect", "five", 1, 5, "kernel"),
    Growth("judging redirect cases", "few", "seventh", 23, 109, "case"),
)


def benchmark(options: argparse.Namespace) -> int:
    """Time the chosen measures, compare them with the stored figures, and store the new ones with --save."""
    if options.runs < 1:
        raise UsageError(f"--runs must be at least 1, not {options.runs}", hint="give it 5 for a median")
    measures = chosen(options.only, quick=options.quick)
    kept = figures.read(figures.PATH)
    say(f"suite {suite_commit()}, {os.cpu_count()} CPUs, {options.runs} runs of each measure after one to warm up")
    say(f"{'':44}     min  median     max   goal stretch yardsticks  stored  peak MiB")
    found: dict[str, list[Timed]] = {}
    for measure in measures:
        _once(measure, "warm-up")
        found[measure.name] = [timed(partial(_once, measure, str(number))) for number in range(options.runs)]
        say(row(measure, found[measure.name], kept))
    for sentence in growths(found):
        say(sentence)
    if not options.quick and not options.only:
        say(guest.overhead(*guest.watching()))
        say(guest.recovery([guest.recovered() for _ in range(options.runs)]))
    now = gathered(found)
    for sentence in figures.compared(kept, now):
        say(sentence)
    if options.save:
        figures.write(kept.updated(now), figures.PATH)
    return int(ExitCode.OK)


def chosen(only: Sequence[str], *, quick: bool) -> list[Measure]:
    """Return the measures asked for; UsageError for an unknown name."""
    names = [measure.name for measure in MEASURES]
    if unknown := [name for name in only if name not in names]:
        raise UsageError(f"there is no measure named {unknown[0]}", hint=f"the measures are {', '.join(names)}")
    return [each for each in MEASURES if (each.name in only if only else each.quick or not quick)]


def row(measure: Measure, runs: Sequence[Timed], kept: Figures) -> str:
    """Return the line of one measure."""
    seconds = sorted(each.seconds for each in runs)
    bars = [f"{bar:.1f}" if bar else "" for bar in (measure.bar, measure.stretch)]
    before = kept.ratios.get(measure.name)
    stored_text = f"{before:.2f}" if before else "none"
    return (
        f"{f'{measure.name}: {measure.title}':44.44} {seconds[0]:7.2f} {statistics.median(seconds):7.2f}"
        f" {seconds[-1]:7.2f} {bars[0]:>6} {bars[1]:>7} {_ratio(runs):10.2f}  {stored_text:>6}"
        f"  {max(each.memory for each in runs):8.0f}"
    )


def gathered(found: Mapping[str, Sequence[Timed]]) -> Figures:
    """Return the figures of the measures."""
    looks = [each.yardstick for runs in found.values() for each in runs]
    ratios = {name: _ratio(runs) for name, runs in found.items()}
    return Figures(os.cpu_count() or 0, statistics.median(looks) if looks else 0.0, ratios)


def growths(found: Mapping[str, Sequence[Timed]]) -> list[str]:
    """Return the cost of one more kernel and of one more case, in seconds and in yardsticks."""
    lines = []
    for growth in _GROWTH:
        if growth.less in found and growth.more in found:
            steps = growth.many - growth.few
            runs = [found[name] for name in (growth.less, growth.more)]
            low, high = (statistics.median(run.seconds for run in each) for each in runs)
            more = high - low
            lines.append(
                f"{growth.title}: {more:.2f} s more for {steps:g} more {growth.unit}s, {more / steps:.4f} s or"
                f" {(_ratio(runs[1]) - _ratio(runs[0])) / steps:.4f} yardsticks each"
            )
    return lines


def _ratio(runs: Sequence[Timed]) -> float:
    return statistics.median(each.ratio for each in runs)


def _once(measure: Measure, label: str) -> tuple[float, float]:
    """Run one measure; returns seconds and the peak of proportional memory in MiB."""
    arguments = measure.arguments
    if measure.fresh:
        arguments = ("--append", f"conform.benchmark={os.getpid()}-{label}", *arguments)
    launcher = [_ROOT / "conform"] if measure.module == "conformance" else [sys.executable, "-m", measure.module]
    # Each run keeps results in the current directory; dozens of runs would fill the checkout.
    with tempfile.TemporaryDirectory(prefix="conform-benchmark-") as folder:
        started = time.monotonic()
        process = subprocess.Popen(
            [*launcher, "run", *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        peak = Peak(process.pid, _SAMPLE)
        _, errors = process.communicate()
        seconds = time.monotonic() - started
    if process.returncode != measure.code:
        raise ConformError(
            f"the run of the measure {measure.name!r} exited with {process.returncode}", hint=errors.strip()
        )
    return seconds, peak.stop()
