# SPDX-License-Identifier: GPL-2.0-only
"""`conform benchmark`: the suite's own speed, as medians a person can compare with the bars it must meet."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConformError
from conformance.provenance import suite_commit

_ROOT = Path(__file__).resolve().parent.parent
_CASE = "sockmap-ingress-to-egress-tcp4-unix_stream"
_FIVE = ("debian:5.10", "debian:6.1", "debian:6.12", "debian:6.18", "debian:7.3")
_REDIRECT = ("-n", "auto", "-k", "test_redirect")
_OTHERS = ("-n", "auto", "-k", "not test_redirect")
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
    return 0


def _once(measure: Measure, label: str) -> tuple[float, float]:
    """Run one measure; returns seconds and the peak of proportional memory in MiB."""
    arguments = measure.arguments
    if measure.fresh:
        arguments = ("--append", f"conform.benchmark={os.getpid()}-{label}", *arguments)
    started = time.monotonic()
    process = subprocess.Popen(
        [_ROOT / "conform", "run", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    peak = _Peak(process.pid)
    _, errors = process.communicate()
    seconds = time.monotonic() - started
    if process.returncode:
        raise ConformError(f"the benchmark's run {measure.name!r} ended with {process.returncode}", hint=errors.strip())
    return seconds, peak.stop()


class _Peak:
    """Watch the proportional set size of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the watch and return the most seen, in MiB."""
        self._done.set()
        self._thread.join()
        return self._most / 1024

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE):
            self._most = max(self._most, sum(_proportional(pid) for pid in _family(self._pid)))


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = [
            child
            for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:  # it ended while we looked
        return
    for child in children:
        yield from _family(int(child))


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(benchmark(argparse.Namespace(runs=5)))
