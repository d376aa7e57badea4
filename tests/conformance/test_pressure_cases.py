# SPDX-License-Identifier: GPL-2.0-only
"""The pressure cases: guest and catalogue agree, and the tables accept no wrong answer."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

from conformance.groups.pressure import cases as pressure
from conformance.groups.pressure.cases import QUESTIONS, pressure_cases
from conformance.judge import steps
from conformance.judge.defects import deviations
from conformance.judge.needs import unmet
from conformance.judge.steps import judge_steps
from conformance.model import Verdict
from kernels.version import Version
from tests.conformance.expectations import deciding, observation
from tests.conformance.observations import facts

KERNELS = ("5.10.262", "6.1.192", "6.12.118", "6.18.15", "7.3.4")


def test_guest_and_cases_name_the_same_questions() -> None:
    """Every question of the guest has cases, and no case asks for another."""
    tree = ast.parse(Path(pressure.__file__).with_name("guest").joinpath("scenario.py").read_text())
    (table,) = [
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and "QUESTIONS" in ast.dump(node.target)
    ]
    assert isinstance(table, ast.Dict)
    assert {key.value for key in table.keys if isinstance(key, ast.Constant)} == set(QUESTIONS)
    assert len({case.id for case in pressure_cases()}) == len(pressure_cases())


def test_every_row_decides_something_on_some_kernel() -> None:
    """Every row decides a case on some kernel that was run."""
    rules = itertools.chain.from_iterable(steps.table("pressure").rules.values())
    assert {rule.id for rule in rules if rule.outcome != steps.ABSENT} == deciding("pressure", KERNELS)


@pytest.mark.parametrize("version", KERNELS)
def test_wrong_answer_is_never_accepted(version: str) -> None:
    """A changed answer of any step fails, with a known defect or without one."""
    kernel, number = facts(version), Version.parse(version)
    for case in pressure_cases():
        if unmet(case, kernel) is not None:
            continue
        deviant = {step: answer for row in deviations(case, number) for step, answer in row.answers.items()}
        seen = observation(case, version)
        seen["steps"] |= deviant
        assert judge_steps(case, kernel, seen, deviant).verdict is Verdict.PASS, case.id
        for step in seen["steps"]:
            wrong = {**seen, "steps": {**seen["steps"], step: "a wrong answer"}}
            assert judge_steps(case, kernel, wrong, deviant).verdict is Verdict.FAIL, (case.id, step)
