# SPDX-License-Identifier: GPL-2.0-only
"""The description of a group: its promise, its cases, and the functions that it has instead of the common ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance.expect.rules import CONTRACT, Rule
from conformance.groups.kinds import FAMILIES
from conformance.model import Case, Judgement, KernelFacts, Observation

Judge = Callable[[Case, KernelFacts, Observation, Mapping[str, str]], Judgement]
"""The last argument: the answers that known defects give instead of the promised ones."""
Decided = Callable[[Case, KernelFacts], tuple[tuple[str, Rule], ...]]
Answers = Callable[[Mapping[str, str], Mapping[str, Any]], tuple[tuple[str, str], ...]]
Families = Mapping[str, Sequence[str]]
"""Values of a parameter by a name that rows may use for all of them."""


@dataclass(frozen=True, slots=True)
class Group:
    """The cases of one subject."""

    name: str
    promise: str
    """The promise that the cases check, in one sentence."""
    cases: Callable[[], tuple[Case, ...]]
    judge: Judge | None = None
    """Judges an observation; None if the observation is a list of steps, for which all groups share a judge."""
    decided: Decided | None = None
    """Returns each step of a case with the row that decides it; None for a group with steps."""
    answers: Answers | None = None
    """Reads parameters and observation as pairs of question and answer; None for a group with steps."""
    matrix: bool = False
    """Whether reports draw its cases as IN against OUT, and not as a row of counts."""
    families: Families = field(default_factory=lambda: FAMILIES)
    """Names that rows of the group may use for several values of a parameter."""
    ground: str = CONTRACT
    """Why the kernel owes what rows promise that name no ground and cite no commit."""
    warm_up: frozenset[str] = frozenset()
    """Names of cases after which most of what the others use is at hand: code, listeners, fences, the kernel's BTF."""
    stress: bool = False
    """Whether its cases run only with --stress."""
