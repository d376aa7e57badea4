# SPDX-License-Identifier: GPL-2.0-only
"""The length of a wait: time in which a busy host did not run the machine does not count, and yet every wait ends."""

from __future__ import annotations

import pytest

from vm import patience
from vm.patience import CEILING, EXTENSION_LIMIT, Patience


class Clock:
    """A fake clock, and a host that starves two threads for a share of each second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.one = self.other = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def starved(self) -> tuple[float, float]:
        """Return the seconds for which the threads have been starved so far."""
        return self.now * max(self.one, self.other), self.now * (self.one + self.other)


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def ends(clock: Clock, wait: Patience) -> float:
    """Return after how many seconds a wait is over."""
    begin = clock.now
    while wait.left > 0 and clock.now - begin < 10_000:
        clock.now += 0.25
    return clock.now - begin


@pytest.mark.parametrize(
    ("one", "other", "seconds", "unfair"),
    [
        (0.0, 0.0, 10, False),
        (0.5, 0.0, 20, False),
        (0.9, 0.0, 100, False),
        (0.9, 0.05, 200, False),
        (15 / 16, 0.0, 160, False),
        # Two threads starved at the same time for 21.7 of 20 seconds: the wait once had no end.
        (0.55, 0.535, 44.5, False),
        (0.8, 0.8, 100, False),
        (0.999, 0.0, 10 * CEILING, True),
        (1.0, 1.0, 10 * CEILING, True),
    ],
)
def test_a_wait_ends_however_busy_the_host_is(
    clock: Clock, one: float, other: float, seconds: float, unfair: bool
) -> None:
    """A machine gets its time, by a count that cannot exceed the clock; if it does not, the host is blamed."""
    clock.one, clock.other = one, other
    wait = Patience(10.0, clock.starved)
    assert ends(clock, wait) == pytest.approx(seconds, abs=0.5)
    assert wait.unfair is unfair


def test_what_was_waited_before_does_not_count(clock: Clock) -> None:
    """Neither a host that was busy before, nor counts that go back because a thread has ended, change a wait."""
    clock.one = 0.9
    clock.now = 5000.0
    wait = Patience(10.0, clock.starved)
    clock.one = 0.0
    assert ends(clock, wait) == pytest.approx(10.0, abs=0.5)
    assert wait.starved == 0.0
    assert not wait.unfair


def test_extensions_are_below_the_ceiling(clock: Clock) -> None:
    """The wait for a guest that asks for more, on a host that never runs it, ends at the sum of both limits."""
    clock.one = 1.0
    wait = Patience(10.0, clock.starved)
    for _ in range(100):
        wait.extend(1000.0)
    assert ends(clock, wait) == pytest.approx(10 * EXTENSION_LIMIT * CEILING, abs=0.5)
    assert wait.unfair


@pytest.mark.parametrize(
    ("faults", "seconds", "squeezed"),
    [(999, 10.0, False), (1000, 10.0, True), (1000, 120.0, False), (1300, 120.0, True)],
)
def test_a_machine_whose_memory_was_taken(clock: Clock, faults: int, seconds: float, squeezed: bool) -> None:
    """Memory that has to be read from disk again and again is the host's fault; a template read once is not."""
    read = iter((50, 50 + faults))
    wait = Patience(seconds, clock.starved, lambda: next(read))
    ends(clock, wait)

    assert wait.blame == (patience.SQUEEZED.format(faults) if squeezed else "")
