# SPDX-License-Identifier: GPL-2.0-only
"""The documentation names files and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from conformance.run import figures

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "CONTRIBUTING.md", *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md")))
FOLDERS: Final = ("bpf", "common", "conformance", "docs", "kernels", "plans", "tests", "vm")
MADE: Final = {figures.PATH}
"""Files that a command makes."""
_PATH: Final = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]*")


def paths_in(page: str) -> set[str]:
    """Return the paths that a page names in backticks or as files of a diff."""
    text = (ROOT / page).read_text(encoding="utf-8")
    quoted = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^--- (\S+)$", text, re.MULTILINE)]
    return {each.replace("NAME", "*").replace("GROUP", "*") for each in quoted if _PATH.fullmatch(each)}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    """Every path in the pages exists."""
    missing = [path for path in paths_in(page) if not any(ROOT.glob(path.rstrip("/"))) and ROOT / path not in MADE]

    assert missing == []


def test_paths_are_found() -> None:
    """The pages name many paths; this fails if the pattern finds none."""
    assert "conformance/expect/rules.py" in paths_in("docs/expectations.md")
    assert "conformance/groups/*/" in paths_in("docs/architecture.md")
    assert "conformance/groups/redirect/guest/setup.py" in paths_in("docs/adding-a-case.md")


def test_the_worked_example_is_what_is_there() -> None:
    """Each line that the worked example (dup2(2)) adds is in the file."""
    guide = (ROOT / "docs/adding-a-case.md").read_text(encoding="utf-8")
    diff = guide.split("## Example 1")[1].split("```")[1]
    file, added = "", 0
    for line in diff.splitlines():
        if line.startswith("--- "):
            file = (ROOT / line.removeprefix("--- ")).read_text(encoding="utf-8")
        elif line.startswith("+"):
            added += 1
            assert line[1:] in file.splitlines(), line
    assert added == 7


def test_the_root_of_the_package_stays_small() -> None:
    """At most six modules lie beside the packages of `conformance`, so that each thing has one place."""
    assert len(list((ROOT / "conformance").glob("*.py"))) <= 6
