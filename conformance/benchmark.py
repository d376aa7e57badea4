# SPDX-License-Identifier: GPL-2.0-only
"""`conform benchmark`: the suite's own speed, as medians a person can compare with the bars it must meet."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from common.errors import ConformError
from conformance.bundle import guest_bundle
from conformance.catalogue import redirect_cases
from conformance.conclude import conclude
from conformance.examine import examine
from conformance.expect.judge import judge
from conformance.memory import Peak
from conformance.model import Case
from conformance.model import KernelFacts
from conformance.model import Verdict
from conformance.provenance import suite_commit
from conformance.tries import Repetition
from conformance.workbench import PRELOAD
from conformance.workbench import Workbench
from kernels.resolve import resolve
from vm.machine import MachineOptions
from vm.session import Session

_ROOT = Path(__file__).resolve().parent.parent
_CASE = "redirect/sockmap-ingress-to-egress-tcp4-unix_stream"
_FIVE = ("debian:5.10", "debian:6.1", "debian:6.12", "debian:6.18", "debian:7.3")
_REDIRECT = ("-n", "auto", "--case", "redirect")
_OTHERS = ("-n", "auto", "-k", "not test_redirect")
_SPEC = "debian:6.12"
_SLUG = "debian-6.12"
_WATCHED = 7
"""Of so many cases one is asked to learn what watching costs."""

_CRASH = "def panic(arguments):\n    open('/proc/sysrq-trigger', 'w').write('c')\n"

_TURNS = 9
"""So often each way."""

_SAMPLE = 0.05
"""Seconds between two looks at the memory of a run."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing to time: its bar and stretch goal in seconds, and the arguments of `conform run`."""

    name: str
    bar: float
    stretch: float
    arguments: tuple[str, ...]
    fresh: bool = False
    """Whether each run makes a new template, by a kernel command line nobody used before."""


MEASURES = (
    Measure("one case, command to verdict", 2.0, 1.0, ("--kernel", "debian:6.12", "--case", _CASE)),
    Measure("whole redirect matrix, one kernel", 25.0, 12.0, ("--kernel", "debian:6.12", *_REDIRECT)),
    Measure(
        "template of a new kernel, and one case", 15.0, 9.0, ("--kernel", "debian:6.12", "--case", _CASE), fresh=True
    ),
    Measure("whole matrix, five kernels", 120.0, 60.0, (*(f"--kernel={spec}" for spec in _FIVE), *_REDIRECT)),
    Measure("every other group, one kernel", 40.0, 20.0, ("--kernel", "debian:6.12", *_OTHERS)),
)


def benchmark(options: argparse.Namespace) -> int:
    """Time every measure and print minimum, median and maximum, with the peak memory of all processes together."""
    print(f"suite {suite_commit()}, {os.cpu_count()} CPUs, {options.runs} runs each, one warm-up")
    print(f"{'':42} {'min':>7} {'median':>7} {'max':>7} {'bar':>6} {'stretch':>7}  peak MiB")
    for measure in MEASURES:
        _once(measure, "warm-up")
        runs = [_once(measure, str(number)) for number in range(options.runs)]
        seconds = sorted(each[0] for each in runs)
        print(
            f"{measure.name:42} {seconds[0]:7.2f} {statistics.median(seconds):7.2f} {seconds[-1]:7.2f}"
            f" {measure.bar:6.1f} {measure.stretch:7.1f}  {max(each[1] for each in runs):8.0f}",
            flush=True,
        )
    print(_overhead(*_watching()))
    print(_recovery([_recovered() for _ in range(options.runs)]))
    return 0


def _watching() -> tuple[float, float]:
    """Return what a case takes with somebody watching its kernel, and without, in seconds.

    Both in one run, on one machine: each case is put to it both ways, in turns, from request to verdict.
    """
    cases = [case for case in redirect_cases() if case.params["layout"] == "plain"][::_WATCHED]
    kernel = resolve(_SPEC)
    facts = KernelFacts(kernel.version, kernel.config)
    with closing(Workbench({_SLUG: kernel}, MachineOptions(preload=PRELOAD))) as workbench:
        workbench.prepare(_SLUG, lambda text: None)
        machine = cast("Session", workbench.machine(_SLUG))

        def watched(case: Case) -> None:
            reply = workbench.ask(_SLUG, case)
            assert conclude(case, facts, reply).verdict.expected

        def unwatched(case: Case) -> None:
            reply = machine.call(case.scenario, case.params, deadline=case.deadline, watch=False)
            assert judge(case, facts, reply.value).verdict.expected

        for case in cases:
            watched(case)
        pairs = [_in_turns(case, watched, unwatched) for case in cases]
    return statistics.mean(pair[0] for pair in pairs), statistics.mean(pair[1] for pair in pairs)


def _in_turns(case: Case, *ways: Callable[[Case], None]) -> tuple[float, ...]:
    """Return the median of the seconds that a case takes each way."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(_TURNS):
        for number in range(len(ways))[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            ways[number](case)
            seconds[number].append(time.perf_counter() - begin)
    return tuple(map(statistics.median, seconds))


def _overhead(watched: float, unwatched: float) -> str:
    """Say what watching the kernel's health costs."""
    return (
        f"a case takes {1000 * watched:.2f} ms with its window of the kernel log, taint and scan, and"
        f" {1000 * unwatched:.2f} ms without: {watched / unwatched - 1:.1%} more"
    )


def _recovered() -> tuple[float, float]:
    """Have a kernel panic; return the seconds from the request to do so until another answers, and the next case."""
    case, *_ = redirect_cases()
    crash = Case(case.group, "panic", "crash:panic", case.params)
    with closing(Workbench({_SLUG: resolve(_SPEC)}, MachineOptions(preload=PRELOAD))) as workbench:
        workbench.prepare(_SLUG, lambda text: None)
        workbench.machine(_SLUG).load({**guest_bundle(), "crash": _CRASH})
        begin = time.perf_counter()
        died, _ = examine(workbench, _SLUG, crash, how=Repetition(tries=1))
        workbench.machine(_SLUG)
        replaced = time.perf_counter() - begin
        judged, _ = examine(workbench, _SLUG, case)
    assert (died.verdict, judged.verdict) == (Verdict.PANIC, Verdict.PASS)
    return replaced, time.perf_counter() - begin


def _recovery(runs: Sequence[tuple[float, float]]) -> str:
    """Say how long a panic holds up a worker."""
    replaced, judged = (sorted(seconds) for seconds in zip(*runs, strict=True))
    return (
        f"from a case that panics the kernel to another kernel that answers: {statistics.median(replaced):.2f} s,"
        f" at most {replaced[-1]:.2f} s; to the next case's verdict: {statistics.median(judged):.2f} s,"
        f" at most {judged[-1]:.2f} s"
    )


def _once(measure: Measure, label: str) -> tuple[float, float]:
    """Run one measure; returns seconds and the peak of proportional memory in MiB."""
    arguments = measure.arguments
    if measure.fresh:
        arguments = ("--append", f"conform.benchmark={os.getpid()}-{label}", *arguments)
    started = time.monotonic()
    process = subprocess.Popen(
        [_ROOT / "conform", "run", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    peak = Peak(process.pid, _SAMPLE)
    _, errors = process.communicate()
    seconds = time.monotonic() - started
    if process.returncode:
        raise ConformError(f"the benchmark's run {measure.name!r} ended with {process.returncode}", hint=errors.strip())
    return seconds, peak.stop()


if __name__ == "__main__":
    sys.exit(benchmark(argparse.Namespace(runs=5)))
