# SPDX-License-Identifier: GPL-2.0-only
"""Run the `conform` command the way a user does, from another directory, and check what it leaves behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0
"""Seconds; a command that takes longer hangs."""


def command(*arguments: str) -> list[str]:
    """Return the command line of `conform` under the Python that runs the tests."""
    return [sys.executable, "-m", "conformance", *arguments]


def environment(root: Path = ROOT, **changes: str) -> Mapping[str, str]:
    """Return the environment for a checkout; without the variables of the outer pytest."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**kept, "PYTHONPATH": os.fspath(root), **changes}


def conform(
    *arguments: str, cwd: Path, root: Path = ROOT, patience: float = PATIENCE, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run `conform ARGUMENTS` to its end, within PATIENCE."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(root, **changes), capture_output=True, text=True,
        timeout=patience, check=False,
    )  # fmt: skip


def verdict_line(printed: str) -> str:
    """Return the verdict line of a report: the last but the one that names the results folder."""
    lines = [line for line in printed.splitlines() if line]
    while lines[-1].startswith(("results: ", "page: ", "resume: ")):
        lines.pop()
    return lines[-1]


def copy_of_checkout(target: Path) -> Path:
    """Copy the suite, to plant a fault in the copy."""
    for package in ("bpf", "common", "conformance", "kernels", "vm"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, target / name)
    return target


def descendants(pid: int) -> set[int]:
    """Return the process ids of all descendants of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = {int(each) for each in task.read_text().split()}
        except OSError:
            continue
        found |= children.union(*(descendants(child) for child in children))
    return found


def is_qemu(pid: int) -> bool:
    """Tell whether a process is a QEMU."""
    try:
        return "qemu-system" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def reraise(error: Exception) -> None:
    """Raise an error that the code under test was to tell somebody."""
    raise error
