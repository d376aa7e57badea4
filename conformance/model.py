# SPDX-License-Identifier: GPL-2.0-only
"""The words of the suite as values: case, facts, verdict, judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NotRequired, TypedDict

from kernels.version import Version

Observation = Mapping[str, Any]
"""What a scenario saw, as JSON; its keys are documented at the scenario."""


class Verdict(StrEnum):
    """What one case on one kernel came to."""

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
    """The test it belongs to without `test_`, e.g. `redirect`."""
    name: str
    """Stable, `[a-z0-9_.-]` only; `group/name` is its id everywhere."""
    scenario: str
    """The guest-side function, `package.module:function`."""
    params: Mapping[str, str]
    """What distinguishes it; also the scenario's arguments and what expectation rows match."""
    deadline: float = 1.0
    """Seconds on the reference machine, some ten times what the slowest case takes; scaled by the machine's factor."""

    @property
    def id(self) -> str:
        """`group/name`."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What the judge may know of a kernel."""

    version: Version
    config: Mapping[str, str]
    """CONFIG symbols without prefix; empty if unknown."""


class Source(StrEnum):
    """What kind of row a verdict rests on."""

    PROMISE = "promise"
    """What this kernel owes an application."""
    DEFECT = "defect"
    """What a kernel is known to do instead."""
    NEED = "need"
    """What a case cannot do without."""
    LIST = "list"
    """A line of a list that the user gave."""


MAINLINE: Final = "mainline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A row that decided a verdict."""

    file: str
    """The file it is in: relative to the package `conformance`, or as the user gave it."""
    row: str
    """Its id, or the number of its line."""
    source: Source
    ground: str = ""
    """`control`, `conservation`, `contract` or `version`; empty for what is no promise, and in an older log."""
    reason: str = ""
    commit: str = ""
    subject: str = ""
    since: Mapping[str, str] = field(default_factory=dict)
    """The first version that behaves so, by `mainline` and by each stable branch that got the change by backport."""
    until: Mapping[str, str] = field(default_factory=dict)
    """The first version that no longer does; empty if there is none."""
    link: str = ""
    title: str = ""
    """Of a known defect: what is wrong, in one sentence; empty where the reason says it."""
    cve: str = ""
    """Of a known defect: its number."""
    steps: tuple[str, ...] = ()
    """What it decided: steps of the case. Empty where it decided whether the case is asked or what is excused."""

    @property
    def place(self) -> str:
        """Where to find the row: `groups/redirect/promises-redirect.toml: send-egress-refused`."""
        return f"{self.file}: {self.row}"

    def sentence(self, version: str = "") -> str:
        """Name the row, and since when and by which commit it holds on the branch of `version`."""
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
    """One sentence for each thing that was not as expected, what was wanted first."""
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
    """One try, or several in a row that went alike, of a case that was tried more than once."""

    verdict: Verdict
    observed: str
    fresh: bool
    """Whether it had a clone of its own."""
    times: int
    """Tries in a row that went alike."""
    expected: NotRequired[str]
    differences: NotRequired[tuple[str, ...]]
    hasty: NotRequired[bool]
    seconds: NotRequired[float]
    log: NotRequired[tuple[LogEntry, ...]]
