# SPDX-License-Identifier: GPL-2.0-only
"""A command that is printed works when it is pasted, whatever the user started the program as."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from common.program import NEUTRAL, VARIABLE, here, program
from conformance import __main__, cli, launch
from conformance.compare.text import comparison_lines
from conformance.host.environment import Environment
from conformance.report.bug_report import command_lines
from conformance.report.style import Style
from tests.conformance.conform import ROOT, environment
from tests.conformance.test_compare_text import compared

_BISECTION = "git bisect run ./conform run --kernel tree:. --case x"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home with two programs, one of them in PATH, and be in it."""
    home = tmp_path / "home"
    for name in ("src/suite/conform", "bin/conform", "other/a b/conform"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\necho ran\n")
        path.chmod(0o755)
    monkeypatch.setenv("HOME", os.fspath(home))
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    monkeypatch.chdir(home / "bin")
    return home


@pytest.mark.parametrize(
    ("folder", "started", "called", "anywhere"),
    [
        ("src/suite", "./conform", "./conform", "~/src/suite/conform"),
        ("src/suite", "conform", "./conform", "~/src/suite/conform"),
        ("src", "suite/conform", "suite/conform", "~/src/suite/conform"),
        ("bin", "../src/suite/conform", "../src/suite/conform", "~/src/suite/conform"),
        ("bin", "HOME/src/suite/conform", "~/src/suite/conform", "~/src/suite/conform"),
        ("src/suite", "HOME/src/suite/conform", "./conform", "~/src/suite/conform"),
        ("src", "HOME/bin/conform", "conform", "conform"),
        ("src", "HOME/other/a b/conform", "~/'other/a b/conform'", "~/'other/a b/conform'"),
        ("src", "HOME/gone", NEUTRAL, NEUTRAL),
    ],
)
def test_it_is_called_as_the_user_called_it(
    folder: str, started: str, called: str, anywhere: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name if PATH leads there, by a short path otherwise; and the shell finds it by that."""
    monkeypatch.chdir(home / folder)
    monkeypatch.setenv(VARIABLE, started.replace("HOME", os.fspath(home)))

    assert (program(), program(anywhere=True)) == (called, anywhere)
    if called == NEUTRAL and folder != "src/suite":
        return
    for word, cwd in ((called, home / folder), (anywhere, Path("/"))):
        done = subprocess.run(["sh", "-c", word], cwd=cwd, capture_output=True, text=True, check=False)
        assert done.stdout == "ran\n", done.stderr


def test_what_nobody_started_has_the_neutral_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as pytest, or `python -m conformance`."""
    monkeypatch.delenv(VARIABLE, raising=False)

    assert program() == program(anywhere=True) == NEUTRAL


def test_a_folder_that_would_move_the_cursor_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a folder may be a stranger's; a printed command never has its escape sequences."""
    folder = tmp_path / "evil\x1b[2J"
    folder.mkdir()
    (folder / "conform").touch()
    monkeypatch.setenv(VARIABLE, str(folder / "conform"))

    assert program() == program(anywhere=True) == NEUTRAL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see ./conform --help", "see ~/src/suite/conform --help"),
        ("`./conform kernels` lists all; ./conform", "`~/src/suite/conform kernels` lists all; ~/src/suite/conform"),
        ("see ../conform, /x/./conform and ./conform.toml", "see ../conform, /x/./conform and ./conform.toml"),
    ],
)
def test_only_commands_are_renamed(text: str, expected: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that ends alike is another thing."""
    monkeypatch.setenv(VARIABLE, os.fspath(home / "src/suite/conform"))

    assert here(text) == expected
    assert here(here(text)) == expected


def test_a_report_on_a_terminal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat commands have the reader's name of the program, a bisection one that holds in the kernel's repository."""
    monkeypatch.chdir(home / "src/suite")
    monkeypatch.setenv(VARIABLE, "./conform")
    style = Style.of(sys.stdout)

    assert command_lines("repeat", "./conform run --case './conform x'", style) == [
        "   repeat    ./conform run --case './conform x'"
    ]
    assert "run ~/src/suite/conform run --kernel" in command_lines("bisect", _BISECTION, style)[0]
    assert command_lines("bisect", "   ", style) == ["   bisect   "]
    (line,) = (each for each in comparison_lines(compared(), style) if "git bisect run" in each)
    assert "git bisect run ~/src/suite/conform run" in line


def test_what_is_stored_is_neutral(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A style of no stream is that of a file."""
    monkeypatch.setenv(VARIABLE, os.fspath(home / "src/suite/conform"))

    assert "run ./conform run --kernel" in command_lines("bisect", _BISECTION, Style())[0]


def test_help_and_hints(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usage, the examples and the hint behind an error name what was started."""
    started = {**environment(), VARIABLE: os.fspath(home / "src/suite/conform")}
    command = [sys.executable, "-m", "conformance"]

    helped = subprocess.run([*command, "run", "--help"], env=started, capture_output=True, text=True, check=True)
    erred = subprocess.run([*command, "rnu"], env=started, capture_output=True, text=True, check=False)

    assert helped.stdout.startswith("usage: ~/src/suite/conform run ")
    assert "\n  ~/src/suite/conform run ~/linux --case redirect\n" in helped.stdout
    assert "./conform" not in helped.stdout
    assert erred.stderr.endswith("hint: did you mean run? see ~/src/suite/conform --help\n")


def test_the_launcher_and_the_script_say_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are known by the name that the shell used; the project's tests compare with what is stored."""
    monkeypatch.setattr(Environment, "stale", lambda *_: "")
    monkeypatch.setattr(launch, "missing", lambda _: [])
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(cli, "main", lambda: 0)
    seen = []
    for name in ("PYTHONSAFEPATH", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", VARIABLE):
        monkeypatch.setenv(name, "")
    starts: tuple[tuple[Callable[[], object], str], ...] = (
        (partial(launch.launch, os.fspath(ROOT), ["list"]), "../conform"),
        (partial(launch.launch, os.fspath(ROOT), ["test"]), "../conform"),
        (__main__.main, "/venv/bin/conform"),
        (__main__.main, "/suite/conformance/__main__.py"),
    )
    for start, argv in starts:
        monkeypatch.setattr(sys, "argv", [argv])
        start()
        seen.append(os.environ[VARIABLE])

    assert seen == ["../conform", "", "/venv/bin/conform", "/venv/bin/conform"]
