# SPDX-License-Identifier: GPL-2.0-only
"""What each case has come to over the nights: a pure function of their logs."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from conformance.model import Verdict
from conformance.report.events import CaseEvent
from conformance.report.events import Run

SIGNS = {
    Verdict.PASS: ".",
    Verdict.XFAIL: "x",
    Verdict.SKIP: "-",
    Verdict.FAIL: "F",
    Verdict.XPASS: "X",
    Verdict.SPLAT: "S",
    Verdict.PANIC: "P",
    Verdict.HANG: "H",
    Verdict.LOST: "L",
    Verdict.INFRA: "?",
}
FLAKY = "~"
ABSENT = " "
LEGEND = ". pass  x known  - skip  F fail  X xpass  S splat  P panic  H hang  L lost  ? infra  ~ its tries disagreed"


@dataclass(frozen=True, slots=True)
class Strip:
    """One case on one kernel, night after night."""

    id: str
    kernel: str
    """The spec."""
    nights: tuple[CaseEvent | None, ...]

    @property
    def judged(self) -> tuple[CaseEvent, ...]:
        """The nights that tell something about the kernel."""
        return tuple(each for each in self.nights if each and each.verdict not in (Verdict.SKIP, Verdict.INFRA))

    @property
    def flips(self) -> int:
        """How often it went from right to wrong or back between one night that tells something and the next."""
        return sum(one.verdict.expected is not other.verdict.expected for one, other in pairwise(self.judged))

    @property
    def flaky(self) -> int:
        """In how many nights its tries disagreed."""
        return sum(each.flaky for each in self.judged)

    @property
    def flake_rate(self) -> float:
        """The share of those nights."""
        return self.flaky / len(self.judged) if self.judged else 0.0

    @property
    def noteworthy(self) -> bool:
        """Whether there is anything to say: it flips, flakes, or was wrong at last."""
        return bool(self.flips or self.flaky or (self.judged and not self.judged[-1].verdict.expected))

    def __str__(self) -> str:
        """Return a sign for each night."""
        return "".join(map(_sign, self.nights))


def strips(runs: Sequence[Run]) -> Iterator[Strip]:
    """Yield every case on every kernel, case by case; kernels are told apart by their slugs, whatever their release."""
    slugs = list(dict.fromkeys(slug for run in runs for slug in run.slugs))
    specs = {slug: run.kernel(slug).spec for run in runs for slug in run.slugs}
    found = [{(slug, case.id): case for slug in run.slugs for case in run.cases.get(slug, ())} for run in runs]
    for name in dict.fromkeys(name for night in found for _, name in night):
        for slug in slugs:
            cases = tuple(night.get((slug, name)) for night in found)
            if any(cases):
                yield Strip(name, specs[slug], cases)


def _sign(case: CaseEvent | None) -> str:
    if case is None:
        return ABSENT
    return FLAKY if case.flaky else SIGNS[case.verdict]
