# SPDX-License-Identifier: GPL-2.0-only
"""The words of the suite as values: case, facts, verdict, judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its grounds."""

    verdict: Verdict
    expected: str
    """The outcome expected, by name (see conformance/expect)."""
    observed: str
    """The outcome observed, by name, or `other`."""
    reason: str
    """Why that was expected: the rule's sentence, commit and first version; or why it was skipped."""
    differences: tuple[str, ...] = ()
    """One sentence for each thing that was not as expected, what was wanted first."""
    deviation: str = ""
    """The known deviations it is about, by name and separated by blanks; only for xfail and xpass."""
