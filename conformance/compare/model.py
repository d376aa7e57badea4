# SPDX-License-Identifier: GPL-2.0-only
"""The words of a comparison as values: symptom, side, change, difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from conformance.report.events import KernelEvent


class Opinion(StrEnum):
    """What the expectations of a kernel's own version say of what it showed."""

    PROMISED = "promised"
    WRONG = "wrong"
    """Unexpected or, as a known defect, expected: wrong either way."""
    NONE = "none"
    """They do not say."""
    NOT_ASKED = "not asked"
    """The case was skipped; there is nothing to say it of."""
    NOT_JUDGED = "not judged"
    """The harness failed; there is nothing to say it of either."""


@dataclass(frozen=True, slots=True)
class TryResult:
    """What one try of a case came to, without anything that differs from try to try."""

    answers: tuple[tuple[str, str], ...]
    """Name and answer: the steps of a stepwise case, the outcome of a redirect, or `splat` and its title."""
    opinion: Opinion = field(default=Opinion.NONE, compare=False)
    reason: str = field(default="", compare=False)
    """What the opinion is founded on."""
    splat: str = field(default="", compare=False)
    """The title of the kernel's report, if there was one."""

    @property
    def judged(self) -> bool:
        """Whether the kernel answered, in whatever way."""
        return self.opinion not in (Opinion.NOT_ASKED, Opinion.NOT_JUDGED)

    def beside(self, other: TryResult | None) -> str:
        """Say it in a few words: only the answers that `other` does not give, if it gives any of them."""
        theirs = dict(other.answers) if other is not None else {}
        mine = dict(self.answers)
        alike = mine.keys() & theirs.keys()
        names = [name for name in (*mine, *theirs) if mine.get(name) != theirs.get(name)] if alike else list(mine)
        return ", ".join(f"{name} {mine.get(name, 'nothing')}" for name in dict.fromkeys(names or mine))


@dataclass(frozen=True, slots=True)
class Side:
    """What one kernel showed of one case."""

    first: TryResult | None
    """In the run over all cases; None if it was not among them."""
    tries: tuple[TryResult, ...] = ()
    """When it was repeated, because the two kernels differed."""
    repeat: str = ""
    """The command that repeats it."""
    flaky: bool = False
    """Whether the run itself tried it more than once, and the tries disagreed."""

    @property
    def seen(self) -> tuple[TryResult, ...]:
        """Every symptom in which the kernel answered, the first one first."""
        every = (self.first, *self.tries)
        return tuple(each for each in every if each is not None and each.judged)

    @property
    def counted(self) -> tuple[TryResult, ...]:
        """The symptoms that frequencies are made of.

        The first one was chosen for being different, so it has no vote where there are others.
        """
        return tuple(each for each in self.tries if each.judged) or self.seen

    @property
    def steady(self) -> bool:
        """Whether every try showed the same."""
        return len(set(self.seen)) == 1 and not self.flaky

    def frequencies(self) -> Counter[TryResult]:
        """How often each symptom was seen in the tries that count."""
        return Counter(self.counted)


class Change(StrEnum):
    """What has become of a case from base to head."""

    REGRESSION = "regression"
    FIX = "fix"
    STILL_FAILING = "still failing"
    """The same on both, and wrong."""
    UNSTABLE = "unstable"
    CHANGED = "changed"
    """Wrong on both, in different ways."""
    APPEARED = "appeared"
    """Only head was asked."""
    VANISHED = "vanished"
    """Only base was asked."""
    AS_PROMISED = "as promised"
    """Different, and each is what its own version promises."""
    NOT_JUDGED = "not judged"
    """The harness could not tell."""
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Difference:
    """One case, and what has become of it."""

    id: str
    params: Mapping[str, str]
    change: Change
    base: Side
    head: Side


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two kernels, and every case that either of them was asked."""

    base: KernelEvent
    head: KernelEvent
    differences: tuple[Difference, ...]
    """Those that are the same and right are among them."""
    unlike: tuple[str, ...] = ()
    """What differs between the kernels themselves, a sentence each."""
    suites: tuple[str, str] = ("", "")
    """Which suite judged base, and which judged head: `suite COMMIT`."""
    tries: int = 0
    """How often each differing case was repeated; 0 if it was not."""
    alone: bool = True
    """Whether every try had a clone of its own."""
    notes: tuple[str, ...] = ()
    """Sentences the reader must see, e.g. why nothing was repeated."""

    def counts(self) -> Counter[Change]:
        """How many cases came to each change."""
        return Counter(each.change for each in self.differences)

    def of(self, change: Change) -> tuple[Difference, ...]:
        """Return the cases that came to a change."""
        return tuple(each for each in self.differences if each.change is change)
