# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUPS = sorted((ROOT / "conformance/groups").glob("*/guest"))
GUEST = ("bpf/guest", "conformance/guestlib", "vm/guest", *(str(path.relative_to(ROOT)) for path in GROUPS))
FILES = sorted(path for folder in GUEST for path in (ROOT / folder).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Yield the absolute name of every module that `source` imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def strangers(source: str) -> list[str]:
    """Return the imports of `source` which a guest could not satisfy."""
    ours = tuple(folder.replace("/", ".") for folder in GUEST)
    return [
        name
        for name in imported(source)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not f"{name}.".startswith(tuple(f"{o}." for o in ours))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_guest_code_needs_only_the_standard_library(path: Path) -> None:
    """A guest has a bare Python: guest code imports only the standard library and other guest code."""
    assert strangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: path.parent.name)
def test_a_group_imports_no_guest_code_of_another(path: Path) -> None:
    """Guest code that two groups use is in conformance/guestlib."""
    own = f"conformance.groups.{path.parent.name}."
    names = {name for file in path.rglob("*.py") for name in imported(file.read_text(encoding="utf-8"))}
    assert [name for name in sorted(names) if name.startswith("conformance.groups.") and not name.startswith(own)] == []


@pytest.mark.parametrize("name", ["rich", "common.errors", "vm.machine", "conformance.model"])
def test_a_foreign_import_is_found(name: str) -> None:
    """The check finds an import that a guest lacks, at the top and inside a function."""
    assert strangers(f"import os\nfrom bpf.guest import x\nimport {name}\n") == [name]
    assert strangers(f"def f():\n    from {name} import x\n") == [f"{name}.x"]
