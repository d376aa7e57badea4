# SPDX-License-Identifier: GPL-2.0-only
"""The judge: a pure function of a case, what is known of the kernel, and what was observed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from common.errors import ConformError
from conformance.groups.redirect.differences import flow_differences
from conformance.groups.redirect.differences import setup_differences
from conformance.groups.redirect.expectation import OUTCOME
from conformance.groups.redirect.expectation import Expectation
from conformance.groups.redirect.expectation import expected_outcome
from conformance.groups.redirect.expectation import newest_known
from conformance.groups.redirect.expectation import note
from conformance.groups.redirect.expectation import step_of
from conformance.groups.redirect.outcomes import OTHER
from conformance.groups.redirect.outcomes import OUTCOMES
from conformance.groups.redirect.seen import MalformedError
from conformance.groups.redirect.seen import Seen
from conformance.groups.redirect.seen import read
from conformance.judge.needs import unmet
from conformance.judge.steps import judge_steps
from conformance.model import Case
from conformance.model import Judgement
from conformance.model import KernelFacts
from conformance.model import Observation
from conformance.model import Verdict

__all__ = ["expected_outcome", "judge", "newest_known", "note", "unmet"]


def judge(
    case: Case, facts: KernelFacts, observation: Observation, deviant: Mapping[str, str] = MappingProxyType({})
) -> Judgement:
    """Judge what a case showed; never raises: what cannot be judged is `infra`, with the reason.

    `deviant` has the answers of steps that are known to deviate, and are to be put up with.
    """
    if case.group == "redirect":
        return _judge_redirect(case, facts, observation)
    return judge_steps(case, facts, observation, deviant)


def _judge_redirect(case: Case, facts: KernelFacts, observation: Observation) -> Judgement:
    try:
        expected = expected_outcome(case, facts)
    except ConformError as error:
        return Judgement(Verdict.INFRA, "unknown", "", f"{error}; {error.hint}", (f"no expectation: {error}",))
    newer = note(facts.version)
    reason = f"{expected.reason}; {newer}" if newer else expected.reason
    try:
        seen = _read(case, observation)
    except MalformedError as error:
        malformed = (f"the observation is malformed: {error}",)
        return Judgement(Verdict.INFRA, expected.name, "", reason, malformed, grounds=expected.grounds())
    differences = _differences(case.params, expected, seen)
    if not differences:
        return Judgement(Verdict.PASS, expected.name, expected.name, reason, grounds=expected.grounds())
    observed, grounds = observed_outcome(case.params, seen), expected.grounds(_wrong(expected, seen))
    return Judgement(Verdict.FAIL, expected.name, observed, reason, differences, grounds=grounds)


def observed_outcome(params: Mapping[str, str], seen: Seen) -> str:
    """Name what was seen: the set-up step that failed, the outcome that fits in every detail, or `other`."""
    steps = (("no-socket", seen.sockets), ("not-attached", dict(seen.attach[-1:])), ("not-inserted", seen.insert))
    for step, results in steps:
        for result in results.values():
            if result != "ok":
                return f"{step}-{result}"
    fitting = (name for name, outcome in OUTCOMES.items() if not any(flow_differences(params, outcome, seen)))
    return next(fitting, OTHER)


def _read(case: Case, observation: Observation) -> Seen:
    seen = read(observation, case.params["layout"])
    ready = bool(seen.attach) and {*seen.sockets.values(), seen.attach[-1][1], *seen.insert.values()} == {"ok"}
    if ready != bool(seen.phases):
        raise MalformedError("phases were run although the set-up failed" if seen.phases else "no phase was run")
    return seen


def _wrong(expected: Expectation, seen: Seen) -> frozenset[str]:
    """Return the steps of the set-up that came out otherwise than a row says, up to the first kind that did."""
    compared = (
        ("socket", expected.sockets, seen.sockets),
        ("attach", dict(expected.attach), dict(seen.attach)),
        ("insert", expected.insert, seen.insert),
    )
    for kind, wanted, got in compared:
        if wanted != got:
            return frozenset(step_of(kind, each) for each in wanted if wanted[each] != got.get(each))
    return frozenset({OUTCOME})


def _differences(params: Mapping[str, str], expected: Expectation, seen: Seen) -> tuple[str, ...]:
    differences = tuple(setup_differences(expected, seen))
    if expected.outcome is None or not seen.phases:
        return differences
    return (*differences, *flow_differences(params, expected.outcome, seen))
