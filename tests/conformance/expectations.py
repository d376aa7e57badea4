# SPDX-License-Identifier: GPL-2.0-only
"""Read the tables of stepwise groups, for the tests of each group."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from conformance.groups import GROUPS
from conformance.groups.redirect.expectation import expected_outcome
from conformance.judge import steps
from conformance.judge.defects import deviations
from conformance.model import Case, KernelFacts, Verdict
from conformance.report.event_types import CaseEvent, KernelEvent
from kernels.version import Version
from tests.conformance.report_runs import judged


def answers(case: Case, version: str) -> dict[str, str]:
    """Return what is expected of a case, step by step."""
    wanted = steps.table(case.group).expected(case.params, Version.parse(version))
    return {step: rule.outcome for step, rule in wanted.items()}


def shown(case: Case, version: str) -> dict[str, str]:
    """Return the known answers of a kernel of that version: its promises, and its certain defects."""
    known = [row.answers for row in deviations(case, Version.parse(version)) if not row.racy]
    merged = answers(case, version) | {step: answer for each in known for step, answer in each.items()}
    return {step: answer for step, answer in merged.items() if answer != steps.ABSENT}


USUAL: Final = {
    "exit": "ok",
    "poll": "in out",
    "count": "right",
    "error": "ok",
    "memory": "none",
    "receive": "socket",
    "send": "peer",
}
"""Answers of a control in the normal case."""


def observation(case: Case, version: str, usual: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
    """Return the observation of a case that meets all expectations, with a control: a `usual` one, or any."""
    wanted = answers(case, version)
    asked = [step for step, answer in wanted.items() if answer == steps.AS_CONTROL]
    own = {step: f"{step} of any control" for step in asked} if usual is None else usual
    control = {step: answer for step, answer in own.items() if step in asked} | {
        step.removeprefix(steps.OF_CONTROL): answer
        for step, answer in wanted.items()
        if step.startswith(steps.OF_CONTROL)
    }
    seen = {
        step: control[step] if answer == steps.AS_CONTROL else answer
        for step, answer in wanted.items()
        if not step.startswith(steps.OF_CONTROL) and (answer != steps.AS_CONTROL or step in control)
    }
    return {"steps": seen, "control": control} if control else {"steps": seen}


def expected_event(kernel: KernelEvent, case: Case, facts: KernelFacts) -> CaseEvent:
    """Make the event of a case on a kernel that meets all expectations and shows its certain defects."""
    if GROUPS[case.group].matrix:
        expectation = expected_outcome(case, facts)
        return judged(kernel, case, expectation.name, reason=expectation.reason)
    rows = steps.table(case.group).expected(case.params, facts.version)
    seen = observation(case, str(facts.version), USUAL)
    known = [row for row in deviations(case, facts.version) if not row.racy]
    for row in known:
        seen["steps"] |= row.answers
    seen["steps"] = {step: answer for step, answer in seen["steps"].items() if answer != steps.ABSENT}
    return judged(
        kernel,
        case,
        ", ".join(f"{step} {answer}" for step, answer in seen["steps"].items()),
        reason="; ".join(dict.fromkeys(row.because(facts.version) for row in known or rows.values())),
        observation=seen,
        verdict=Verdict.XFAIL if known else Verdict.PASS,
        deviation=" ".join(map(str, known)),
    )


def deciding(group: str, versions: Iterable[str]) -> set[str]:
    """Return the ids of the rows that decide an answer of some case on one of these kernels."""
    table = steps.table(group)
    return {
        rule.id
        for version in map(Version.parse, versions)
        for case in GROUPS[group].cases()
        for rule in table.expected(case.params, version).values()
    }


def versioned(group: str) -> Iterator[dict[str, Any]]:
    """Yield the rows, as they are in the files, that do not hold for every kernel."""
    for path in steps.files(group):
        for row in tomllib.loads(path.read_text())["rule"]:
            if "until" in row or Version.parse(row["since"]["mainline"]) > Version.parse("5.10"):
                yield row


def without_commit(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the ids of rows that name no commit, or not its subject."""
    return [row["id"] for row in rows if not row["commit"] or not row["subject"]]
