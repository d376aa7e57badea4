# SPDX-License-Identifier: GPL-2.0-only
"""How long to wait for a machine. Time in which the host gave the machine no CPU does not count."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

EXTENSION_LIMIT = 4.0
"""The agent may ask for more time, up to this multiple of the original time in all."""

FOREVER = 1e6
"""Seconds; poll(2) would take less."""

OVERTIME = 64
"""After the end of a wait, data that has already arrived is still read, at most this many times."""


CEILING = 32
"""A wait takes at most this multiple of its time, extensions included, however busy the host is."""

STARVED = "this host was too busy: the machine got less CPU time than its deadline allows"

SQUEEZED = "this host is short of memory: it made the machine wait {} times for memory to be read back from disk"
_OFTEN = 10
"""Major faults a second. A machine has some 50 in its life, and a few hundred more where nothing of it was cached."""
_MANY = 1000

Waits = tuple[float, float]
"""Seconds in which a process had work and no processor: at least, and at most."""


class Patience:
    """One wait, which begins now."""

    def __init__(
        self, seconds: float, starved: Callable[[], Waits] = lambda: (0.0, 0.0), faults: Callable[[], int] = lambda: 0
    ) -> None:
        """Wait for `seconds` in which the machine runs or could run.

        `starved` returns how long it could not run so far, `faults` how often it waited for memory on disk.
        """
        self._begin = time.monotonic()
        self._seconds = seconds
        self._granted = 0.0
        self._starved = starved
        self._before = starved()
        self._faults, self._faults_before = faults, faults()
        self._overtime = OVERTIME

    def extend(self, seconds: float) -> None:
        """Wait longer, because the machine says that it needs to."""
        self._granted = min(self._granted + seconds, (EXTENSION_LIMIT - 1) * self._seconds)

    @property
    def starved(self) -> float:
        """Seconds of this wait in which the machine had work and no CPU.

        If its threads waited one after another, their waits add up; if they waited at once, only the longest counts.
        Which it was is not known, and with the sum a wait might never end. So the sum counts up to the middle between
        the longest wait and the time that has passed.
        """
        passed = time.monotonic() - self._begin
        waited = zip(self._starved(), self._before, strict=True)
        least, most = (min(max(0.0, now - then), passed) for now, then in waited)
        return min(most, (passed + least) / 2)

    @property
    def left(self) -> float:
        """Seconds that are left; none or less when the wait is over."""
        allowed, passed = self._seconds + self._granted, time.monotonic() - self._begin
        if allowed > passed:
            return allowed - passed
        return min(allowed - passed + self.starved, CEILING * allowed - passed)

    @property
    def unfair(self) -> bool:
        """Whether this wait is over although the machine certainly had less than its time."""
        passed = time.monotonic() - self._begin
        least = self._starved()[0] - self._before[0]
        return passed - least < self._seconds + self._granted

    @property
    def blame(self) -> str:
        """Say what the host did if the wait is over without the machine having had what it needs; else nothing."""
        return STARVED if self.unfair else self.squeezed

    @property
    def squeezed(self) -> str:
        """Say so if the host made the machine wait for memory, again and again, so far; else nothing."""
        passed, faults = time.monotonic() - self._begin, self._faults() - self._faults_before
        return SQUEEZED.format(faults) if faults >= max(_MANY, _OFTEN * passed) else ""

    def overtime(self) -> bool:
        """Whether to read once more after the end of the wait; this process may have been delayed itself."""
        self._overtime -= 1
        return self._overtime >= 0


def never() -> Patience:
    """Return a wait that has no end."""
    return Patience(2 * FOREVER)


def starvation(pid: int) -> Waits:
    """Return for how many seconds a process has been ready to run and did not; none where the host does not count.

    At least that is what one of its threads waited. At most it is the first thread, and whichever of the others waited
    longest: a request passes through both. See Documentation/scheduler/sched-stats.rst.
    """
    first, others = 0.0, [0.0]
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError, LookupError, ValueError):
            seconds = int((thread / "schedstat").read_text().split()[1]) / 1e9
            if thread.name == str(pid):
                first = seconds
            else:
                others.append(seconds)
    return max(first, *others), first + max(others)


def major_faults(pid: int) -> int:
    """Return how often a process has waited for memory that was on disk: proc(5), /proc/PID/stat, majflt."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[9])
    except (OSError, LookupError, ValueError):
        return 0
