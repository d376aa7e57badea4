# SPDX-License-Identifier: GPL-2.0-only
"""The judge: a pure function of a case, what is known of the kernel, and what was observed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from conformance.groups import GROUPS
from conformance.judge.steps import judge_steps
from conformance.model import Case, Judgement, KernelFacts, Observation


def judge(
    case: Case, facts: KernelFacts, observation: Observation, deviant: Mapping[str, str] = MappingProxyType({})
) -> Judgement:
    """Judge what a case showed; never raises: what cannot be judged is `infra`, with the reason.

    `deviant` has the answers of steps that are known to deviate, and are to be put up with.
    """
    own = GROUPS[case.group].judge
    return (own or judge_steps)(case, facts, observation, deviant)
