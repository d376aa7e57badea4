# SPDX-License-Identifier: GPL-2.0-only
"""Whether anything prints or writes foreign text without making it visible first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PRINTING = {"print", "write", "write_text", "write_bytes", "write_line", "writelines", "echo"}
SAYING = {"fail", "skip", "xfail", "exit", "UsageError"}
"""Functions of pytest that print their argument."""

ALLOWED = {
    "common/errors.py:complain": "through lines_of()",
    "common/say.py:put": "through line(), or a report",
    "common/say.py:put_bytes": "a report",
    "common/say.py:write": "what pytest and argparse print",
    "common/cache.py:build": "JSON for ourselves",
    "common/cache.py:write": "JSON for ourselves",
    "conformance/commands/benchmark.py:benchmark": "our own figures",
    "conformance/commands/matrix.py:matrix": "a report",
    "conformance/host/setup.py:_make": "our own path",
    "conformance/host/setup.py:_logged": "pip's and apt's output, to their log",
    "conformance/commands/teeth.py:teeth": "a report",
    "conformance/report/forecast.py:remember": "JSON for ourselves",
    "conformance/run/quick.py:quick_choice": "JSON for ourselves",
    "conformance/run/recorder.py:begin": "events",
    "conformance/run/recorder.py:add": "events",
    "conformance/launch.py:launch": "constants, before anything can be imported",
    "conformance/host/checks.py:run": "our own checks",
    "conformance/host/checks.py:_watched": "what our own checks print",
    "conformance/host/setup.py:_install_requirements": "a digest",
    "conformance/report/live.py:_say": "lines of Style",
    "conformance/report/live.py:_draw": "lines of Style",
    "conformance/report/events.py:write": "ASCII JSON",
    "conformance/report/summary.py:write_summary": "ASCII JSON",
    "conformance/report/store.py:store": "a report",
    "conformance/compare/store.py:store": "ASCII JSON",
    "conformance/run/figures.py:write": "our own figures",
    "conformance/run/greeting.py:_write": "in the guest, which shows it on its own terminal",
    "conformance/run/controller.py:pytest_terminal_summary": "lines of Style",
    "conformance/commands/merge.py:_write": "events",
    "common/outfile.py:replace": "what the caller made visible",
    "common/outfile.py:create": "what the caller made visible",
    "conformance/run/evidence_copy.py:_copy_file": "what a run has written, as it is",
    "conformance/teeth/trial.py:save": "ASCII JSON",
    "vm/shell.py:interact": "a terminal that the user asked to have",
    "vm/session.py:shell": "a terminal that the user asked to have",
}
"""Places that print or write, with the reason why they are safe."""

FOREIGN = {"foreign", "lines_of", "page", "line"}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield each place of the host's code that prints or writes, its function, and the call."""
    for path in sorted(
        each for package in ("common", "conformance", "vm", "kernels") for each in (ROOT / package).rglob("*.py")
    ):
        where = path.relative_to(ROOT).as_posix()
        if "/guest/" in where or "guestlib" in where:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for each in ast.walk(function):
                    if isinstance(each, ast.Call):
                        yield f"{where}:{function.name}", _name(each), each


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return ""


def is_for_people(name: str, call: ast.Call, where: str) -> bool:
    """Return whether a call prints, or writes a file for people."""
    if name in SAYING:
        return isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "pytest"
    # vm/ and kernels/ write only images, archives and their own notes, and must not print at all.
    return name in PRINTING and (name == "print" or where.startswith(("common/", "conformance/")))


def test_nothing_goes_around_the_functions() -> None:
    """Every call that prints, writes a file or hands text to pytest uses `foreign`, or is listed with its reason."""
    found: dict[str, bool] = {}
    for where, name, call in calls():
        if is_for_people(name, call, where):
            safe = any(each.id in FOREIGN for each in ast.walk(call) if isinstance(each, ast.Name))
            found[where] = found.get(where, True) and (
                safe or all(isinstance(each, ast.Constant) for each in call.args)
            )
    assert sorted(where for where, safe in found.items() if not safe and where not in ALLOWED) == []


def test_every_exception_is_needed() -> None:
    """Every listed place exists."""
    assert ALLOWED.keys() <= {where for where, _, _ in calls()}
