# SPDX-License-Identifier: GPL-2.0-only
"""The generated parts of docs/ say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.groups import GROUPS
from tests import generated_docs


@pytest.mark.parametrize("page", generated_docs.pages(), ids=lambda page: page.name)
def test_every_page_is_up_to_date(page: Path) -> None:
    """Every page equals its generated content."""
    text = page.read_text(encoding="utf-8")

    assert generated_docs.written(text) == text, "run: .venv/bin/python -m tests.generated_docs"


def test_every_part_stands_in_a_page() -> None:
    """Cases, options and formats are documented."""
    texts = [page.read_text(encoding="utf-8") for page in generated_docs.pages()]

    assert all(any(f"<!-- generated: {part} -->" in text for text in texts) for part in generated_docs.PARTS)


def test_every_group_has_a_row() -> None:
    """Each group has a row in the table, and its promise is a sentence."""
    rows = generated_docs.cases().splitlines()[2:]

    assert [row.split("`")[1] for row in rows] == list(GROUPS)
    assert all(row.split("|")[2].strip().endswith(".") for row in rows)


def test_every_command_has_its_help() -> None:
    """The commands are found in the help, and each prints its own."""
    assert {"run", "compare", "explain", "report", "shell"} <= set(generated_docs.commands())
    assert all(f"usage: ./conform {name}" in generated_docs.options() for name in generated_docs.commands())


def test_a_part_that_nothing_makes_is_an_error() -> None:
    """A misspelt marker is an error."""
    with pytest.raises(KeyError):
        generated_docs.written("<!-- generated: nonsense -->\n<!-- /generated -->")
