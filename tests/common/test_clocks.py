# SPDX-License-Identifier: GPL-2.0-only
"""No deadline depends on the wall clock, which an administrator or NTP may set."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import cache

ROOT = Path(__file__).resolve().parents[2]
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "dt.date.today", "date.today"}

ALLOWED = {
    "conformance/commands/boundaries.py:_prove": "the date of a proof",
    "conformance/commands/matrix.py:_seed": "the seed of the day",
    "conformance/commands/matrix.py:_new_results": "the name of a folder",
    "conformance/run/provenance.py:run_event": "when the run began, for its readers",
    "conformance/run/results.py:new_folder": "the name of a folder",
    "common/cache.py:age": "of what is kept in files, which has no other clock",
    "kernels/archive.py:catalogue": "when a catalogue was made",
    "kernels/debian.py:resolve": "when an archive was asked",
    "kernels/inventory.py:prunable": "of files, for a person",
    "vm/session.py:greet": "what a guest sets its clock to",
    "vm/guest/agent.py:_hello": "what the guest's clock was set to",
    "vm/guest/agent.py:_restore_clock": "whether a case has set the guest's clock",
    "vm/template.py:retire": "of files, kept for weeks",
}
"""Functions that need the wall clock."""


def readings() -> Iterator[str]:
    """Yield each function that reads the wall clock."""
    for package in ("bpf", "common", "conformance", "kernels", "vm"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for function in ast.walk(ast.parse(path.read_text())):
                if isinstance(function, ast.FunctionDef):
                    called = (each for each in ast.walk(function) if isinstance(each, ast.Call))
                    if any(ast.unparse(each.func) in WALL for each in called):
                        yield f"{path.relative_to(ROOT).as_posix()}:{function.name}"


def test_no_deadline_depends_on_the_clock_on_the_wall() -> None:
    """Deadlines and waits use the monotonic clock; each other use is listed, and exists."""
    assert set(readings()) == ALLOWED.keys()


def test_what_comes_from_the_future_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the clock is set back, cached facts with a date in the future count as old."""
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert [cache.age(made) for made in (900.0, 1000.0, 1001.0)] == [100.0, 0.0, float("inf")]
