# SPDX-License-Identifier: GPL-2.0-only
"""docs/selftests.md names a case or a reason for each subtest of the kernel's selftests."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest

from conformance.groups import cases

PAGE: Final = Path(__file__).parents[2] / "docs/selftests.md"
COUNTS: Final = {
    "sockmap_basic": (35, 26),
    "sockmap_listen": (156, 170),
    "sockmap_redir": (576, 0),
    "sockmap_strp": (10, 0),
    "sockmap_ktls": (10, 8),
    "test_sockmap": (28, 30),
    "verifier_sockmap_mutate": (14, 17),
}
"""Subtests in 7.3.4 and 6.12.107, counted in the source of each program."""


def rows(name: str) -> list[list[str]]:
    """Return the cells of each row about a selftest."""
    section = PAGE.read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("name", COUNTS)
def test_no_subtest_is_left_out(name: str) -> None:
    """The numbers of the rows add up to those of the source."""
    found = rows(name)
    assert (sum(int(row[1]) for row in found), sum(int(row[2]) for row in found)) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_each_has_cases_or_a_reason(name: str) -> None:
    """Each glob matches a case; a row without one says why."""
    known = [case.id for case in cases()]
    for *_, asked in rows(name):
        globs = re.findall(r"`([a-z_]+/[^`]+)`", asked)
        assert globs or asked.startswith("none: "), asked
        assert [glob for glob in globs if not any(fnmatchcase(each, glob) for each in known)] == []
