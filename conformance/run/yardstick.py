# SPDX-License-Identifier: GPL-2.0-only
"""The yardstick that the suite's speed is measured in: fixed work, done on the same machine in the same minute.

The work is like that of a run without KVM: an interpreter that computes on one processor, as TCG does,
and processes that start. It is independent of the suite, so no change to the suite changes it.
"""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDS = 40_000
_STARTS = 10
_SAMPLES = 3
"""Measurements of the yardstick at a time; the median counts."""


def work() -> float:
    """Do the fixed work once; returns its seconds."""
    begin = time.perf_counter()
    digest, held = b"", {}
    for number in range(_ROUNDS):
        digest = hashlib.sha256(digest + number.to_bytes(8)).digest()
        held[digest[:2]] = sorted(digest)[number % len(digest)]
    for _ in range(_STARTS):
        subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.perf_counter() - begin


def look(once: Callable[[], float] = work) -> float:
    """Return the seconds that the work takes now."""
    return statistics.median(once() for _ in range(_SAMPLES))


@dataclass(frozen=True, slots=True)
class Timed:
    """One run of one measure."""

    seconds: float
    yardstick: float
    """Seconds of the yardstick around it."""
    memory: float = 0.0
    """The peak of all its processes together, in MiB."""

    @property
    def ratio(self) -> float:
        """Its duration in yardsticks."""
        return self.seconds / self.yardstick


def timed(measure: Callable[[], tuple[float, float]], yardstick: Callable[[], float] = look) -> Timed:
    """Run a measure, which returns seconds and MiB, between two measurements of the yardstick."""
    before = yardstick()
    seconds, memory = measure()
    return Timed(seconds, (before + yardstick()) / 2, memory)
