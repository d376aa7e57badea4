# SPDX-License-Identifier: GPL-2.0-only
"""Whether anything prints or writes foreign text without making it visible first."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("bpf", "common", "conformance", "kernels", "vm")
PRINTING = {"print", "write", "write_text", "write_bytes", "write_line", "writelines", "echo"}
SAYING = {"fail", "skip", "xfail", "exit", "UsageError"}
"""Functions of pytest that print their argument."""

SPEAKING = {"logging", "pprint", "syslog", "warnings"}
"""Modules that print what they are given."""

ALLOWED = {
    "common/errors.py:print_error": "through lines_of()",
    "common/say.py:put": "through line(), or a report",
    "common/say.py:put_bytes": "a report",
    "common/say.py:write": "what pytest and argparse print",
    "bpf/build.py:_compile_all": "literals for the guest",
    "kernels/apt.py:_write_secret": "apt's own configuration",
    "kernels/apt.py:update": "apt's own configuration",
    "kernels/archive.py:catalogue": "JSON for ourselves",
    "kernels/artifact.py:prepare": "JSON for ourselves",
    "kernels/build.py:_build": "JSON for ourselves; the log through page()",
    "kernels/build.py:_configure": "a digest",
    "kernels/deb.py:unpack": "files of a package",
    "kernels/debian.py:_build": "JSON for ourselves",
    "kernels/debian.py:resolve": "JSON for ourselves",
    "kernels/modules.py:build": "modules, and a path for ourselves",
    "kernels/modules.py:gather": "modules, and a path for ourselves",
    "kernels/patches.py:_diffs": "a mailbox for git",
    "kernels/repository.py:_feed": "files for git",
    "kernels/seal.py:_replace": "JSON for ourselves",
    "kernels/seal.py:seal": "JSON for ourselves",
    "kernels/vmlinux.py:extract": "a kernel",
    "vm/accel.py:_probed": "JSON for ourselves",
    "vm/accel.py:build": "JSON for ourselves",
    "vm/core.py:add_note": "a memory dump",
    "vm/cpio.py:_member": "an initramfs",
    "vm/cpio.py:close": "an initramfs",
    "vm/folder.py:file": "the root of a guest",
    "vm/stock.py:_composed": "JSON for ourselves",
    "vm/stock.py:build": "JSON for ourselves",
    "vm/template.py:write": "JSON for ourselves",
    "common/cache.py:build": "JSON for ourselves",
    "common/cache.py:write": "JSON for ourselves",
    "conformance/commands/benchmark.py:benchmark": "our own figures",
    "conformance/commands/matrix.py:_judged": "a report",
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


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield each place of the host's code that calls something, its function, the name of what is called, the call."""
    for where, tree in modules():
        yield from calls_in(where, tree)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module of the host's code, by its path."""
    for path in sorted(each for package in PACKAGES for each in (ROOT / package).rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if "/guest/" not in where and "guestlib" not in where:
            yield where, ast.parse(path.read_text())


def calls_in(where: str, tree: ast.Module) -> Iterator[tuple[str, str, ast.Call]]:
    """Yield the calls of one module; those outside of all functions have the function `<module>`."""
    inside: set[ast.AST] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for each in ast.walk(function):
                inside.add(each)
                if isinstance(each, ast.Call):
                    yield f"{where}:{function.name}", _name(each), each
    for each in ast.walk(tree):
        if isinstance(each, ast.Call) and each not in inside:
            yield f"{where}:<module>", _name(each), each


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_safe(part: ast.AST) -> bool:
    """Return whether a part of a call makes text visible; a variable named `line` does not."""
    match part:
        case ast.Attribute(value=ast.Name("foreign")) | ast.Call(func=ast.Name("lines_of")):
            return True
    return False


def goes_to_a_person(name: str, call: ast.Call) -> bool:
    """Return whether a call prints, or writes a file."""
    if name in SAYING:
        return isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "pytest"
    return name in PRINTING


def around(found_calls: Iterable[tuple[str, str, ast.Call]]) -> list[str]:
    """Return the functions that print or write without `foreign`."""
    found: dict[str, bool] = {}
    for where, name, call in found_calls:
        if goes_to_a_person(name, call):
            safe = any(map(_is_safe, ast.walk(call)))
            found[where] = found.get(where, True) and (
                safe or all(isinstance(each, ast.Constant) for each in call.args)
            )
    return sorted(where for where, safe in found.items() if not safe)


def test_nothing_goes_around_the_functions() -> None:
    """Every call that prints, writes a file or hands text to pytest uses `foreign`, or is listed with its reason."""
    assert [where for where in around(calls()) if where not in ALLOWED] == []


def test_no_module_is_imported_that_prints() -> None:
    """Nothing is said through a library that prints what it is given."""
    imports = (
        (where, name)
        for where, tree in modules()
        for each in ast.walk(tree)
        if isinstance(each, ast.Import | ast.ImportFrom)
        for name in ([each.module] if isinstance(each, ast.ImportFrom) else [alias.name for alias in each.names])
    )
    assert [(where, name) for where, name in imports if (name or "").partition(".")[0] in SPEAKING] == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("def f(text):\n    print(text)", "f"),
        ("async def f(text):\n    sys.stderr.write(text)", "f"),
        ("class C:\n    def f(self, text):\n        os.write(1, text)", "f"),
        ("f = lambda text: print(text)", "<module>"),
        ("print(text)", "<module>"),
        ("def f(path, text):\n    path.write_text(text)", "f"),
        ("def f(text):\n    pytest.fail(text)", "f"),
        ("def f(text):\n    print(foreign.line(text))", ""),
        ("def f(line, page):\n    print(line, page)", "f"),
        ("def f():\n    print('a constant')", ""),
    ],
)
def test_whatever_prints_is_found(text: str, place: str) -> None:
    """The lint finds what goes around the functions, wherever it stands."""
    assert around(calls_in("m.py", ast.parse(text))) == ([f"m.py:{place}"] if place else [])


def test_every_exception_is_needed() -> None:
    """Every listed place exists."""
    assert ALLOWED.keys() <= {where for where, _, _ in calls()}
