# SPDX-License-Identifier: GPL-2.0-only
"""The readiness cases: guest and catalogue agree, and the tables accept no wrong answer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from conformance.groups import cases
from conformance.groups.readiness import cases as readiness
from conformance.groups.readiness.cases import OPTIONS, QUESTIONS, readiness_cases
from conformance.judge import steps
from conformance.judge.needs import unmet
from kernels.version import Version
from tests.conformance.observations import facts

KERNELS = ("5.10.262", "6.1.192", "6.12.118", "6.18.15", "7.3.4")
GUEST = Path(readiness.__file__).with_name("guest")
PAGE = Path(__file__).parents[2] / "docs" / "socket-options.md"


def keys_of(file: str, table: str) -> set[str]:
    """Return the keys of a guest table by parsing it: importing needs built programs."""
    for node in ast.parse((GUEST / file).read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table and isinstance(node.value, ast.Dict):
            return {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    raise AssertionError(f"{file} has no table {table}")


def test_guest_and_cases_name_the_same_questions() -> None:
    """Every question and option of the guest has cases, and no case asks for another."""
    assert {ask for ask, _ in QUESTIONS} == keys_of("questions.py", "QUESTIONS")
    assert {what for ask, what in QUESTIONS if ask == "writable"} == keys_of("questions.py", "_WRITING")
    assert set(OPTIONS) == keys_of("options.py", "OPTIONS")
    assert len({case.id for case in readiness_cases()}) == len(readiness_cases())


def test_page_of_options_names_only_cases_that_exist() -> None:
    """docs/socket-options.md names every option case, and no case that does not exist."""
    names = set(re.findall(r"`((?:ancillary|pressure|readiness)/[a-z_-]+[a-z_])`", PAGE.read_text()))
    known = [case.id for case in cases()]
    assert not [name for name in names if not any(case.startswith(f"{name}-") for case in known)]
    assert {f"readiness/option-{name}" for name in OPTIONS} <= names


@pytest.mark.parametrize("version", KERNELS)
def test_every_case_has_expectations(version: str) -> None:
    """The tables decide the steps of each case on every kernel, the insertion among them."""
    kernel = facts(version)
    for case in readiness_cases():
        if unmet(case, kernel) is None:
            wanted = steps.table("readiness").expected(case.params, Version.parse(version))
            assert wanted["insert"].outcome == "ok", case.id
