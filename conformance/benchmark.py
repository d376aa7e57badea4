# SPDX-License-Identifier: GPL-2.0-only
"""`conform benchmark`: the suite's own speed, as medians a person can compare with the bars it must meet."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConformError
from conformance.bundle import guest_bundle
from conformance.catalogue import redirect_cases
from conformance.conclude import conclude
from conformance.expect.judge import judge
from conformance.memory import Peak
from conformance.model import KernelFacts
from conformance.provenance import suite_commit
from conformance.workbench import PRELOAD
from conformance.workbench import Workbench
from conformance.workbench import healthy
from kernels.resolve import resolve
from vm.machine import MachineOptions

_ROOT = Path(__file__).resolve().parent.parent
_CASE = "sockmap-ingress-to-egress-tcp4-unix_stream"
_FIVE = ("debian:5.10", "debian:6.1", "debian:6.12", "debian:6.18", "debian:7.3")
_REDIRECT = ("-n", "auto", "-k", "test_redirect")
_OTHERS = ("-n", "auto", "-k", "not test_redirect")
_SPEC = "debian:6.12"
_SLUG = "debian-6.12"
_WATCHED = 7
"""Of so many cases one is asked to learn what watching costs."""

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
    Measure("one case, command to verdict", 2.0, 1.0, ("--kernel", "debian:6.12", "--", "-k", _CASE)),
    Measure("whole redirect matrix, one kernel", 25.0, 12.0, ("--kernel", "debian:6.12", *_REDIRECT)),
    Measure("template of a new kernel, and one case", 15.0, 9.0, ("--kernel", "debian:6.12", "-k", _CASE), fresh=True),
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
    return 0


def _watching() -> tuple[float, float, float]:
    """Return what a case takes in all, and of that what its log window takes in the guest and on the host, in seconds.

    Windows are timed where they are made: nothing else differs between a run with them and one without.
    """
    cases = [case for case in redirect_cases() if case.params["layout"] == "plain"][::_WATCHED]
    with closing(Workbench({_SLUG: resolve(_SPEC)}, MachineOptions(preload=PRELOAD))) as workbench:
        workbench.prepare(_SLUG, lambda text: None)
        workbench.ask(_SLUG, cases[0])
        replies = [workbench.ask(_SLUG, case) for case in cases]
        machine = workbench.machine(_SLUG)
        machine.load({**guest_bundle(), "log_cost": Path(__file__).with_name("log_cost.py").read_text()})
        asked = machine.call("log_cost:measure", dict(cases[0].params), deadline=10.0)
    facts = KernelFacts(resolve(_SPEC).version, {})
    begin = time.perf_counter()
    for case, reply in zip(cases, replies, strict=True):
        conclude(case, facts, reply)
        healthy(reply)
    concluded = time.perf_counter() - begin
    begin = time.perf_counter()
    for case, reply in zip(cases, replies, strict=True):
        judge(case, facts, reply.value)
    judged = time.perf_counter() - begin
    seconds = sum(reply.seconds for reply in replies)
    return seconds / len(cases), asked.value["seconds"], (concluded - judged) / len(cases)


def _overhead(case: float, guest: float, host: float) -> str:
    """Say what watching the kernel's health costs."""
    share = (guest + host) / (case - guest)
    return (
        f"watching the kernel's health takes {1000 * guest:.2f} ms in the guest and {1000 * host:.2f} ms on the host"
        f" of each case's {1000 * case:.1f} ms: {share:.1%} more than without"
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
