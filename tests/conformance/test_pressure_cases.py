# SPDX-License-Identifier: GPL-2.0-only
"""The pressure cases: guest and catalogue agree."""

from __future__ import annotations

import ast
from pathlib import Path

from conformance.groups.pressure import cases as pressure
from conformance.groups.pressure.cases import QUESTIONS, pressure_cases


def test_guest_and_cases_name_the_same_questions() -> None:
    """Every question of the guest has cases, and no case asks for another."""
    tree = ast.parse(Path(pressure.__file__).with_name("guest").joinpath("scenario.py").read_text())
    (table,) = [
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and "QUESTIONS" in ast.dump(node.target)
    ]
    assert isinstance(table, ast.Dict)
    assert {key.value for key in table.keys if isinstance(key, ast.Constant)} == set(QUESTIONS)
    assert len({case.id for case in pressure_cases()}) == len(pressure_cases())
