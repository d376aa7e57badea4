# SPDX-License-Identifier: GPL-2.0-only
"""How long to wait for a machine: what its host makes it wait for a processor is not the machine's time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

EXTENSION_LIMIT = 4.0
"""The agent may ask for more time, but for no more in all than so many times what it was given."""

FOREVER = 1e6
"""Seconds; poll(2) would take less."""

OVERTIME = 64
"""When a wait is over, what has arrived is still read, but not endlessly: so many times."""


class Patience:
    """One wait, from now on."""

    def __init__(self, seconds: float, starved: Callable[[], float] = lambda: 0.0) -> None:
        """Wait for so many seconds in which the machine runs, or could; `starved` says how long it could not so far."""
        self._begin = time.monotonic()
        self._seconds = seconds
        self._granted = 0.0
        self._starved = starved
        self._before = starved()
        self._overtime = OVERTIME

    def extend(self, seconds: float) -> None:
        """Wait longer, because the machine says that it needs to."""
        self._granted = min(self._granted + seconds, (EXTENSION_LIMIT - 1) * self._seconds)

    @property
    def starved(self) -> float:
        """Seconds of this wait that the machine would have used, had it been given a processor."""
        return max(0.0, self._starved() - self._before)

    @property
    def left(self) -> float:
        """Seconds that are left; none or less when the wait is over."""
        left = self._begin + self._seconds + self._granted - time.monotonic()
        return left if left > 0 else left + self.starved

    def overtime(self) -> bool:
        """Whether to read what arrived when the wait was over; we may have been kept from it ourselves."""
        self._overtime -= 1
        return self._overtime >= 0


def never() -> Patience:
    """Return a wait that has no end."""
    return Patience(2 * FOREVER)


def starvation(pid: int) -> float:
    """Return the seconds that a process has been ready to run and did not; 0 where the host's kernel does not count.

    That is its first thread, and whichever of the others waited longest, for those work at once. See
    Documentation/scheduler/sched-stats.rst.
    """
    first, others = 0.0, [0.0]
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, LookupError, ValueError):
            seconds = int((thread / "schedstat").read_text().split()[1]) / 1e9
            if thread.name == str(pid):
                first = seconds
            else:
                others.append(seconds)
    return first + max(others)
