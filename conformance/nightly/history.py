# SPDX-License-Identifier: GPL-2.0-only
"""Each case's verdicts over many runs: a pure function of their logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
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
class Build:
    """Which suite judged which build of a kernel."""

    suite: str
    """The suite's commit; empty if unknown."""
    release: str
    digest: str

    @classmethod
    def of(cls, run: Run, slug: str) -> Build:
        """Return the suite and the kernel build of a run."""
        kernel = run.kernel(slug)
        return cls(run.start.suite_commit, kernel.release, kernel.digest)

    def changed(self, before: Build) -> str:
        """Say which of suite and kernel changed."""
        suite = "the suite" if self.suite != before.suite else ""
        kernel = "the kernel" if (self.release, self.digest) != (before.release, before.digest) else ""
        return " and ".join(filter(None, (suite, kernel))) or "neither suite nor kernel"


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """One case's verdicts on one kernel, in every run."""

    id: str
    kernel: str
    """The spec."""
    runs: tuple[CaseEvent | None, ...]
    builds: tuple[Build, ...]
    """For each run, which suite judged which build of the kernel."""

    @property
    def judged(self) -> tuple[CaseEvent, ...]:
        """The verdicts about the kernel: all but skip and infra."""
        return tuple(case for _, case in self._judged)

    @property
    def _judged(self) -> list[tuple[int, CaseEvent]]:
        numbered = ((number, each) for number, each in enumerate(self.runs) if each)
        return [(number, each) for number, each in numbered if each.verdict not in (Verdict.SKIP, Verdict.INFRA)]

    @property
    def flips(self) -> int:
        """How often the verdict changed between expected and unexpected, skips and infra left out."""
        return len(self.causes)

    @property
    def causes(self) -> tuple[tuple[int, str], ...]:
        """For each flip the number of the run, from 1 on, and whether suite or kernel had changed."""
        return tuple(
            (after + 1, self.builds[after].changed(self.builds[before]))
            for (before, one), (after, other) in pairwise(self._judged)
            if one.verdict.expected is not other.verdict.expected
        )

    @property
    def flaky(self) -> int:
        """In how many runs its tries disagreed."""
        return sum(each.flaky for each in self.judged)

    @property
    def flake_rate(self) -> float:
        """The share of runs in which its tries disagreed."""
        return self.flaky / len(self.judged) if self.judged else 0.0

    @property
    def noteworthy(self) -> bool:
        """Whether the case flips, flakes, or had an unexpected verdict in the last run."""
        return bool(self.flips or self.flaky or (self.judged and not self.judged[-1].verdict.expected))

    def __str__(self) -> str:
        """Return a sign for each run."""
        return "".join(map(_sign, self.runs))


def histories(runs: Sequence[Run]) -> Iterator[CaseHistory]:
    """Yield every case on every kernel, case by case; kernels differ by their slugs, whatever their release."""
    slugs = list(dict.fromkeys(slug for run in runs for slug in run.slugs))
    specs = {slug: run.kernel(slug).spec for run in runs for slug in run.slugs}
    found = [{(slug, case.id): case for slug in run.slugs for case in run.cases.get(slug, ())} for run in runs]
    builds = {slug: tuple(Build.of(run, slug) for run in runs) for slug in slugs}
    for name in dict.fromkeys(name for run in found for _, name in run):
        for slug in slugs:
            cases = tuple(run.get((slug, name)) for run in found)
            if any(cases):
                yield CaseHistory(name, specs[slug], cases, builds[slug])


def _sign(case: CaseEvent | None) -> str:
    if case is None:
        return ABSENT
    return FLAKY if case.flaky else SIGNS[case.verdict]
