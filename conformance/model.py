# SPDX-License-Identifier: GPL-2.0-only
"""The terms of the suite as values: case, facts, verdict, judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NotRequired, TypedDict

from kernels.version import Version

Observation = Mapping[str, Any]
"""The observation of a scenario, as JSON; the scenario documents its keys."""


class Verdict(StrEnum):
    """The verdict of one case on one kernel."""

    PASS = "pass"
    FAIL = "fail"
    XFAIL = "xfail"
    XPASS = "xpass"
    SKIP = "skip"
    SPLAT = "splat"
    PANIC = "panic"
    HANG = "hang"
    LOST = "lost"
    INFRA = "infra"

    @property
    def expected(self) -> bool:
        """Whether a run with only such verdicts exits 0."""
        return self in (Verdict.PASS, Verdict.XFAIL, Verdict.SKIP)


@dataclass(frozen=True, slots=True)
class Case:
    """One question about the kernel."""

    group: str
    """The group, which is the name of its test without `test_`, e.g. `redirect`."""
    name: str
    """Stable, `[a-z0-9_.-]` only; `group/name` is its id everywhere."""
    scenario: str
    """The guest-side function, `package.module:function`."""
    params: Mapping[str, str]
    """The parameters of the case: arguments of the scenario, and what rows of the tables match."""
    deadline: float = 1.0
    """Seconds on the reference machine, some ten times what the slowest case takes; scaled by the machine's factor."""

    @property
    def id(self) -> str:
        """`group/name`."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """The facts about a kernel that the judge may use."""

    version: Version
    config: Mapping[str, str]
    """CONFIG symbols without prefix; empty if unknown."""


class Source(StrEnum):
    """The kind of row behind a verdict."""

    PROMISE = "promise"
    """A promise: what this kernel owes an application."""
    DEFECT = "defect"
    """A known defect: what a kernel does instead."""
    NEED = "need"
    """A need of the case that the kernel does not meet."""
    LIST = "list"
    """A line of a list that the user gave."""


MAINLINE: Final = "mainline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A row that decided a verdict."""

    file: str
    """Its file: relative to the package `conformance`, or as the user gave it."""
    row: str
    """Its id, or the number of its line."""
    source: Source
    ground: str = ""
    """`control`, `conservation`, `contract` or `version`; empty for other rows, and in the log of an older suite."""
    reason: str = ""
    commit: str = ""
    subject: str = ""
    since: Mapping[str, str] = field(default_factory=dict)
    """The first version that behaves so, by `mainline` and by each stable branch that got the change by backport."""
    until: Mapping[str, str] = field(default_factory=dict)
    """The first version that no longer does; empty if there is none."""
    link: str = ""
    title: str = ""
    """The title of a known defect; empty if the reason serves as title."""
    cve: str = ""
    """The CVE number of a known defect."""
    steps: tuple[str, ...] = ()
    """The steps of the case that it decided. Empty if it decided whether the case is asked, or excused a report."""

    @property
    def place(self) -> str:
        """The place of the row: `groups/redirect/promises-redirect.toml: send-egress-refused`."""
        return f"{self.file}: {self.row}"

    def sentence(self, version: str = "") -> str:
        """Name the row, the first version on the branch of `version`, and the commit."""
        commit = f'{self.commit} "{self.subject}"' if self.subject else self.commit
        bounds = [f"{word} {first_on(bound, version)}" for word, bound in self._bounds() if bound]
        facts = ", ".join(filter(None, [*bounds, commit, self.cve, self.link]))
        return f"{self.place} ({facts})" if facts else self.place

    def _bounds(self) -> tuple[tuple[str, Mapping[str, str]], ...]:
        return ("since", self.since), ("until", self.until)


def first_on(bound: Mapping[str, str], version: str = "") -> str:
    """Return the first version of a bound on the branch of `version`, else on mainline."""
    return bound.get(".".join(version.split(".")[:2]), bound.get(MAINLINE, ""))


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its grounds."""

    verdict: Verdict
    expected: str
    """The outcome expected, by name (see conformance/groups/*/promises*.toml)."""
    observed: str
    """The outcome observed, by name, or `other`."""
    reason: str
    """Why that was expected: the rule's sentence, commit and first version; or why it was skipped."""
    differences: tuple[str, ...] = ()
    """One sentence for each difference, with the expected value first."""
    deviation: str = ""
    """The known defects it is about, by name and separated by blanks; only for xfail and xpass."""
    grounds: tuple[Ground, ...] = ()
    """The rows that decided it; of an unexpected verdict, those of the steps that went wrong."""


class LogEntry(TypedDict):
    """A line of the kernel log."""

    text: str
    sequence: NotRequired[int]
    level: NotRequired[int]
    microseconds: NotRequired[int]


class TryEntry(TypedDict):
    """One try of a case that was tried more than once, or several in a row with the same result."""

    verdict: Verdict
    observed: str
    fresh: bool
    """Whether it had its own clone."""
    times: int
    """Tries in a row with the same result."""
    expected: NotRequired[str]
    differences: NotRequired[tuple[str, ...]]
    hasty: NotRequired[bool]
    seconds: NotRequired[float]
    log: NotRequired[tuple[LogEntry, ...]]
