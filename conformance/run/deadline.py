# SPDX-License-Identifier: GPL-2.0-only
"""The total deadline of a run: parse durations, and set an alarm."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from common.errors import DeadlinePassed, KernelError, UsageError

DEFAULT = "1h"
PASSED = "the run's total deadline has passed"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_RESERVE = 10.0
"""Seconds, but at most half of the deadline, for ending the machines and printing the report."""

_LONGEST = 365 * 24 * _UNITS["h"]

_WORKER_EXIT_SECONDS = 1.0
"""Seconds for a worker to end by itself."""


def seconds_of(text: str) -> float:
    """Return the seconds that `90`, `90s`, `10m` or `1h30m` means; UsageError for anything else, and for none."""
    match = _DURATION.fullmatch(text.strip())
    numbers = match.groups(default="0") if match else ()
    seconds = sum(float(number) * unit for number, unit in zip(numbers, _UNITS.values(), strict=False))
    if not seconds:
        raise UsageError(f"{text!r} is not a duration", hint="e.g. 90s, 10m or 1h30m")
    if seconds > _LONGEST:
        raise UsageError(f"{text:.20} is longer than a year", hint="e.g. 90s, 10m or 1h30m")
    return seconds


def duration(seconds: float) -> str:
    """Format a duration so that it can be parsed again."""
    parts = []
    for unit, size in _UNITS.items():
        count, seconds = divmod(seconds, size) if unit != "s" else (seconds, 0.0)
        parts += [f"{count:g}{unit}"] if count else []
    return "".join(parts) or "0s"


def process_began() -> float:
    """Return the start of this process on the monotonic clock."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - age


def expiry(total: float, began: float) -> float:
    """Return the time on the monotonic clock at which judging must stop, so that the run ends within `total`."""
    return began + total - min(_RESERVE, total / 2)


@contextlib.contextmanager
def alarm(at: float) -> Iterator[None]:
    """Raise DeadlinePassed in the main thread, wherever it is, when `time.monotonic()` comes to `at`; may be nested."""
    if at == math.inf:
        yield
        return
    handler, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    outer, _ = signal.getitimer(signal.ITIMER_REAL)
    try:
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, at - began))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, outer - (time.monotonic() - began)))


def exit_at(at: float) -> None:
    """End this process, a worker's, soon after `at` if it has not ended by then; its machine ends with it."""
    if at < math.inf:
        timer = threading.Timer(max(0.0, at - time.monotonic()) + _WORKER_EXIT_SECONDS, os._exit, [1])
        timer.daemon = True
        timer.start()


def _ring(number: int, frame: FrameType | None) -> None:
    raise DeadlinePassed


def too_late(seconds: float) -> KernelError:
    """Return the error for a deadline that passed before any verdict."""
    return KernelError(
        f"the total deadline of {duration(seconds)} passed before any case was judged",
        hint="give a longer one with --total-deadline",
    )
