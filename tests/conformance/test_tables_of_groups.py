# SPDX-License-Identifier: GPL-2.0-only
"""The tables of groups that compare with a control: every row decides something, and no wrong answer passes."""

from __future__ import annotations

import pytest

from conformance.groups import GROUPS
from conformance.judge import steps
from conformance.judge.defects import deviations, of_group
from conformance.judge.needs import unmet
from conformance.judge.steps import judge_steps
from conformance.model import Verdict
from kernels.version import Version
from tests.conformance.expectations import answers, observation
from tests.conformance.observations import facts

KERNELS = ("5.10.262", "6.1.192", "6.12.118", "6.18.15", "7.3.4")
TABLES = ("listen", "pressure", "readiness", "stream")


@pytest.mark.parametrize("group", TABLES)
def test_every_row_decides_something_on_some_kernel(group: str) -> None:
    """Every row decides a step of some case on one of these kernels."""
    table = steps.table(group)
    deciding = {
        rule.id
        for version in map(Version.parse, KERNELS)
        for case in GROUPS[group].cases()
        for rule in table.decided(case.params, version).values()
    }
    assert {rule.id for rules in table.rules.values() for rule in rules} == deciding


@pytest.mark.parametrize("group", TABLES)
@pytest.mark.parametrize("version", KERNELS)
def test_wrong_answer_is_never_accepted(group: str, version: str) -> None:
    """A case with the known answers passes; it fails when the answer of one step changes, or one step is added."""
    kernel, number = facts(version), Version.parse(version)
    for case in GROUPS[group].cases():
        if unmet(case, kernel) is not None:
            continue
        deviant = {step: answer for row in deviations(case, number) for step, answer in row.answers.items()}
        seen = observation(case, version)
        seen["steps"] |= deviant
        assert judge_steps(case, kernel, seen, deviant).verdict is Verdict.PASS, case.id
        absent = {step for step, answer in answers(case, version).items() if answer == steps.ABSENT}
        for step in {*seen["steps"], *absent}:
            wrong = {**seen, "steps": {**seen["steps"], step: "a wrong answer"}}
            assert judge_steps(case, kernel, wrong, deviant).verdict is Verdict.FAIL, (case.id, step)


@pytest.mark.parametrize("group", TABLES)
def test_a_control_that_fails_in_the_same_way_is_no_excuse(group: str) -> None:
    """A step that must answer as the control fails with it, unless any answer of the control is right."""
    for version in KERNELS:
        kernel = facts(version)
        for case in GROUPS[group].cases():
            wanted = answers(case, version)
            bound = [step for step in wanted if step.startswith(steps.OF_CONTROL)]
            for step in () if unmet(case, kernel) else (each.removeprefix(steps.OF_CONTROL) for each in bound):
                seen = observation(case, version)
                for side in seen.values():
                    side[step] = "a wrong answer"
                assert judge_steps(case, kernel, seen).verdict is Verdict.FAIL, (case.id, step)


@pytest.mark.parametrize("group", TABLES)
def test_a_defect_of_some_kernels_names_its_commit(group: str) -> None:
    """A known defect that some kernel lacks names the commit that fixed it, or the one that introduced it."""
    everywhere = {"mainline": "5.10"}
    bound = [row for row in of_group(group) if row.rule.until or row.rule.since.versions() != everywhere]
    assert [(str(row), row.rule.since.versions()) for row in bound if not (row.rule.commit and row.rule.subject)] == []
