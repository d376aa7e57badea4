# SPDX-License-Identifier: GPL-2.0-only
"""The README says what is covered, and says it of the cases there are."""

from __future__ import annotations

from conformance.groups import GROUPS
from conformance.report import coverage


def test_the_readme_is_up_to_date() -> None:
    """The README's table is the one made from the cases."""
    readme = coverage.README.read_text()

    assert coverage.inserted(readme) == readme, "run: .venv/bin/python -m conformance.report.coverage"


def test_every_group_has_a_row() -> None:
    """Each group stands in the table with the promise its test function is documented with."""
    rows = coverage.table().splitlines()

    assert [row.split("`")[1] for row in rows[2:]] == [f"test_{group}" for group in GROUPS]
    assert all(row.split("|")[2].strip().endswith(".") for row in rows[2:])
