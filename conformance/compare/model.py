# SPDX-License-Identifier: GPL-2.0-only
"""The terms of a comparison as values: result, side, change, difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from conformance.report.event_types import KernelEvent


class Opinion(StrEnum):
    """How a result relates to the expectations of the kernel's own version."""

    PROMISED = "promised"
    WRONG = "wrong"
    """An unexpected verdict, or a known defect."""
    NONE = "none"
    """The expectations say nothing."""
    NOT_ASKED = "not asked"
    """The case was skipped."""
    NOT_JUDGED = "not judged"
    """The harness failed."""


@dataclass(frozen=True, slots=True)
class TryResult:
    """The result of one try of a case, without anything that differs from try to try."""

    answers: tuple[tuple[str, str], ...]
    """Name and answer: the steps of a stepwise case, the outcome of a redirect, or `splat` and its title."""
    opinion: Opinion = field(default=Opinion.NONE, compare=False)
    reason: str = field(default="", compare=False)
    """The reason for the opinion."""
    splat: str = field(default="", compare=False)
    """The title of the kernel's report, if there was one."""
    host: bool = field(default=False, compare=False)
    """Whether the host is to blame that it was not judged."""

    @property
    def judged(self) -> bool:
        """Whether the kernel answered."""
        return self.opinion not in (Opinion.NOT_ASKED, Opinion.NOT_JUDGED)

    def beside(self, other: TryResult | None) -> str:
        """Return the result in a few words: only the answers that differ from `other`, if any are equal."""
        theirs = dict(other.answers) if other is not None else {}
        mine = dict(self.answers)
        alike = mine.keys() & theirs.keys()
        names = [name for name in (*mine, *theirs) if mine.get(name) != theirs.get(name)] if alike else list(mine)
        return ", ".join(f"{name} {mine.get(name, 'nothing')}" for name in dict.fromkeys(names or mine))


@dataclass(frozen=True, slots=True)
class Side:
    """The results of one case on one kernel."""

    first: TryResult | None
    """The result in the run over all cases; None if the run did not have the case."""
    tries: tuple[TryResult, ...] = ()
    """The results of its repetitions, because the two kernels differed."""
    repeat: str = ""
    """The command that repeats it."""
    flaky: bool = False
    """Whether the run itself tried it more than once, and the tries disagreed."""

    @property
    def seen(self) -> tuple[TryResult, ...]:
        """Every result in which the kernel answered, in order."""
        every = (self.first, *self.tries)
        return tuple(each for each in every if each is not None and each.judged)

    @property
    def counted(self) -> tuple[TryResult, ...]:
        """The results that count for frequencies.

        The first one was selected because it differs, so it does not count if there are others.
        """
        return tuple(each for each in self.tries if each.judged) or self.seen

    @property
    def steady(self) -> bool:
        """Whether every try showed the same."""
        return len(set(self.seen)) == 1 and not self.flaky

    @property
    def spoilt(self) -> bool:
        """Whether the kernel did not answer, and the host is to blame."""
        return not self.seen and any(each is not None and each.host for each in (self.first, *self.tries))

    def frequencies(self) -> Counter[TryResult]:
        """The frequency of each result in the tries that count."""
        return Counter(self.counted)


class Change(StrEnum):
    """The change of a case from base to head."""

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
    """One case, and its change."""

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
    """All cases, also those without a change."""
    unlike: tuple[str, ...] = ()
    """Differences between the kernels themselves, one sentence each."""
    suites: tuple[str, str] = ("", "")
    """The suites that judged base and head: `suite COMMIT`."""
    tries: int = 0
    """How often each differing case was repeated; 0 if it was not."""
    alone: bool = True
    """Whether every try had its own clone."""
    notes: tuple[str, ...] = ()
    """Sentences the reader must see, e.g. why nothing was repeated."""

    def counts(self) -> Counter[Change]:
        """The number of cases for each change."""
        return Counter(each.change for each in self.differences)

    def of(self, change: Change) -> tuple[Difference, ...]:
        """Return the cases with a change."""
        return tuple(each for each in self.differences if each.change is change)
