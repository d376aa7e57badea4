# SPDX-License-Identifier: GPL-2.0-only
"""The judge of the redirect cases: outcome, bytes and boundaries against the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from common.errors import ConformError
from conformance.expect.verified import note
from conformance.groups.redirect.differences import flow_differences, setup_differences
from conformance.groups.redirect.expectation import OUTCOME, Expectation, expected_outcome, step_of
from conformance.groups.redirect.outcomes import OTHER, OUTCOMES
from conformance.groups.redirect.seen import MalformedError, Seen, read
from conformance.model import Case, Judgement, KernelFacts, Observation, Verdict

_NUMBER = re.compile(r"\d+")


def judge_redirect(
    case: Case, facts: KernelFacts, observation: Observation, deviant: Mapping[str, str] = MappingProxyType({})
) -> Judgement:
    """Judge what a redirect case showed; never raises: what cannot be judged is `infra`, with the reason.

    `deviant` may have an outcome that a known defect gives in place of the promised one.
    """
    try:
        expected = expected_outcome(case, facts)
        if OUTCOME in deviant:
            expected = replace(expected, name=deviant[OUTCOME], outcome=OUTCOMES[deviant[OUTCOME]])
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
    """Return the failed steps of the set-up: those of the first kind of step that differs from its row."""
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


def answers(params: Mapping[str, str], observation: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the kernel's answers: the outcome and each attempt to attach; nothing if they cannot be read."""
    try:
        seen = read(observation, params["layout"])
        outcome = observed_outcome(params, seen)
    except (MalformedError, KeyError):
        return ()
    refused = tuple((f"attaching {kind}", answer) for kind, answer in seen.attach[:-1])
    if outcome != OTHER:
        return ((OUTCOME, outcome), *refused)
    return ((OUTCOME, _nearest(params, seen)), *refused)


def _nearest(params: Mapping[str, str], seen: Seen) -> str:
    """Describe the differences from the nearest outcome; without numbers, because a race loses other data each time."""
    missed = {name: tuple(flow_differences(params, outcome, seen)) for name, outcome in OUTCOMES.items()}
    name = min(missed, key=lambda each: len(missed[each]))
    return f"not {name}: {'; '.join(_without_numbers(missed[name]))}"


def _without_numbers(sentences: Iterable[str]) -> list[str]:
    return sorted({_NUMBER.sub("N", sentence) for sentence in sentences})
