# SPDX-License-Identifier: GPL-2.0-only
"""The judge: a pure function of a case, the facts about the kernel, and the observation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from conformance.groups import GROUPS
from conformance.judge.steps import judge_steps
from conformance.model import Case, Judgement, KernelFacts, Observation


def judge(
    case: Case, facts: KernelFacts, observation: Observation, deviant: Mapping[str, str] = MappingProxyType({})
) -> Judgement:
    """Judge an observation; never raises: an observation that cannot be read gives `infra`, with the reason.

    `deviant` has the answers that known defects give instead of the promised ones.
    """
    own = GROUPS[case.group].judge
    return (own or judge_steps)(case, facts, observation, deviant)
