# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.host import checks
from conformance.host.checks import CHECKS, main
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with fake tools that record their calls, and succeed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in {check.command[0] for check in CHECKS}:
        tool(folder / name, "")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    return folder


def tool(path: Path, does: str) -> None:
    """Write a fake tool that records its call, then runs a script."""
    path.write_text(f'#!/bin/sh\necho {path.name} "$@" >> {path.parent}/called\n{does}\n')
    path.chmod(0o755)


def called(tools: Path) -> list[str]:
    """Return the calls so far."""
    return (tools / "called").read_text().splitlines()


def test_all_checks_run_in_order(tools: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Lint comes first and speed comes last; each check is one line with its seconds, and the exit code is 0."""
    assert main([]) == 0
    names = [call.split()[0] for call in called(tools)]
    assert names == ["ruff", "ruff", "lint-imports", "mypy", "pytest", "pytest", "python"]
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS)
    assert all(re.fullmatch(r"ok     .{22} +\d+\.\d s", line) for line in lines)


def test_fast_leaves_the_machines_out(tools: Path) -> None:
    """With --fast no test that boots a machine is run."""
    assert main(["--fast"]) == 0
    assert called(tools)[-1] == "pytest -n auto -m not vm"


def test_speed_is_shown(tools: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The benchmark's output is printed although a slowdown is not a failure; a benchmark that cannot run is one."""
    tool(tools / "python", "echo slower by more than a tenth")
    assert main(["speed"]) == 0
    assert called(tools) == ["python -m conformance benchmark --quick --runs=1"]
    assert "slower by more than a tenth\nok     benchmark" in capfd.readouterr().out
    tool(tools / "python", "exit 128")
    assert main(["speed"]) == 1


def test_selected_tests_run_without_the_benchmark(tools: Path) -> None:
    """Arguments for pytest leave it out, unless it is named."""
    assert main(["--", "-k", "boot"]) == 0
    assert called(tools)[-1].startswith("pytest")


def test_groups_choose(tools: Path) -> None:
    """Only named groups run, and arguments after -- reach pytest."""
    assert main(["lint", "tests", "--", "-x"]) == 0
    assert called(tools)[2:] == ["lint-imports", "pytest -n auto -m not vm -x"]


def test_the_first_failure_ends_it(tools: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A failed check shows its output, its line says FAILED, no check follows, and the exit code is 1."""
    tool(tools / "mypy", "echo wrong type; exit 1")
    assert main([]) == 1
    printed = capfd.readouterr().out
    assert "wrong type\nFAILED mypy" in printed
    assert called(tools)[-1] == "mypy"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_pytest_must_have_tested(tools: Path, code: int) -> None:
    """Every exit code of pytest other than success fails the check, also `no tests found`."""
    tool(tools / "pytest", f"exit {code}")
    assert main([]) == 1


def test_arguments_may_select_tests_of_one_kind(tools: Path) -> None:
    """With arguments one of the two runs of pytest may find nothing to test, but not both."""
    tool(tools / "pytest", '[ "$4" = vm ] || exit 5')
    assert main(["--", "-k", "boot"]) == 0
    tool(tools / "pytest", "exit 5")
    assert main(["--", "-k", "boot"]) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_check_too(tools: Path, number: signal.Signals, code: int) -> None:
    """SIGHUP, SIGINT and SIGTERM end the running check with the run, without a traceback."""
    tool(tools / "ruff", f"echo $$ > {tools}/pid.new; mv {tools}/pid.new {tools}/pid; exec sleep 600")
    run = f"import sys; sys.executable = {str(tools / 'python')!r}\nfrom conformance.host import checks\n"
    command = [PYTHON, "-c", run + "sys.exit(checks.main([]))"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        wait_until((tools / "pid").exists, "the check runs")
        process.send_signal(number)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == code
    with pytest.raises(ProcessLookupError):
        os.kill(int((tools / "pid").read_text()), 0)
