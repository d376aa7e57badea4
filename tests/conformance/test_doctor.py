# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.host import doctor
from conformance.host.doctor import CheckResult, CheckState
from conformance.host.packages import PACKAGES

ROOT = Path(__file__).parents[2]
TABLE = argparse.Namespace(json=False)
PROGRAMS = {
    "qemu-system-x86_64": "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)",
    "clang": "Debian clang version 14.0.6",
    "busybox": "",
    "depmod": "",
}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder in PATH; its programs only print their version."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, says in PROGRAMS.items():
        program(folder / name, says)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def program(path: Path, says: str) -> None:
    """Write a program that prints its version."""
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def findings() -> dict[str, CheckResult]:
    """Return what the doctor finds, by name."""
    return {finding.name: finding for finding in doctor.examine()}


def test_every_package_is_looked_at(programs: Path) -> None:
    """The table has a line for each package, and each says what is there."""
    found = findings()
    for package in PACKAGES:
        assert found[package.name].state is CheckState.OK, found[package.name]
    assert found["qemu-system-x86"].text == f"7.2.22, {programs}/qemu-system-x86_64"
    assert found["clang"].text == f"14.0.6, {programs}/clang"


@pytest.mark.parametrize(("name", "package"), [("qemu-system-x86_64", "qemu-system-x86"), ("clang", "clang")])
def test_a_missing_package_is_named_with_its_fix(
    programs: Path, capsys: pytest.CaptureFixture[str], name: str, package: str
) -> None:
    """A missing package is said to be missing, with the line that installs it, and the exit code is 128."""
    (programs / name).unlink()
    assert doctor.doctor(TABLE) == 128
    printed = capsys.readouterr().out
    assert re.search(rf"^{package} +MISSING ", printed, re.MULTILINE)
    assert f"to fix: apt-get install {package}" in printed
    assert re.search(rf"^A run cannot work yet: [^.]*{package}", printed, re.MULTILINE)


def test_what_is_missing_as_json(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has the same facts for each check as the text, and the exit code is the same."""
    (programs / "clang").unlink()

    assert doctor.doctor(argparse.Namespace(json=True)) == 128
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert (found["clang"]["state"], found["clang"]["fix"]) == ("missing", "apt-get install clang")
    assert found["processors"]["state"] == "ok"


@pytest.mark.parametrize(
    ("name", "says", "package", "text"),
    [
        ("clang", "Debian clang version 11.0.1-2", "clang", "11.0.1 at {path} is too old"),
        ("qemu-system-x86_64", "QEMU emulator version 5.2.0", "qemu-system-x86", "5.2.0 at {path} is too old"),
        ("clang", "no number at all", "clang", "{path} does not run"),
    ],
)
def test_an_unusable_tool_counts_as_missing(programs: Path, name: str, says: str, package: str, text: str) -> None:
    """A tool that is too old, or does not run, is found before a run needs it."""
    program(programs / name, says)
    found = findings()[package]
    assert (found.state, found.text) == (CheckState.MISSING, text.format(path=programs / name))


def test_a_cache_that_cannot_be_written_is_missing(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache directory below a file can never be made: no run can work."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(programs / "clang"))
    found = findings()["cache"]
    assert found.state is CheckState.MISSING
    assert "XDG_CACHE_HOME" in found.fix


def test_a_cache_that_can_be_written_is_left_clean(programs: Path, tmp_path: Path) -> None:
    """Proving that the cache can be written leaves nothing in it."""
    assert findings()["cache"].state is CheckState.OK
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_long_finding_fits_a_narrow_terminal() -> None:
    """Text and fix are folded at 80 columns, each under its own column."""
    finding = CheckResult("linux-libc-dev", CheckState.MISSING, "word " * 60, "apt-get install --something " * 9)
    lines = doctor.render(finding, colour=False).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.startswith(" " * 26) for line in lines[1:])
    assert "\033" not in "".join(lines)


def test_without_environment_the_doctor_makes_do(tmp_path: Path) -> None:
    """Under a bare Python, without site-packages, the doctor checks everything and says how to install the rest."""
    done = run_doctor(tmp_path)
    assert done.returncode == 128
    assert re.search(r"^environment +MISSING .*\n? +.*\n? +to fix: ./conform run makes it", done.stdout, re.MULTILINE)
    assert "accelerator" in done.stdout
    assert done.stderr == ""
    assert "\033" not in done.stdout


def test_colour_is_for_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the states are coloured, unless NO_COLOR forbids it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[32mok" in on_terminal(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in on_terminal(tmp_path)


def run_doctor(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the doctor of a checkout that has no environment, under a bare Python."""
    return subprocess.run(bare(folder), capture_output=True, text=True, timeout=60, check=False)


def bare(folder: Path) -> list[str]:
    """Return the command that runs the doctor as if the checkout were `folder`."""
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from conformance.host import doctor\n"
        f"doctor.ROOT = pathlib.Path({str(folder)!r})\n"
        "import argparse\n"
        "sys.exit(doctor.doctor(argparse.Namespace(json=False)))\n"
    )
    return [sys.executable, "-IS", "-c", code]


def on_terminal(folder: Path) -> str:
    """Return what the doctor prints on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(bare(folder), stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        printed = b""
        try:
            while data := os.read(ours, 4096):
                printed += data
        except OSError:
            # Linux gives EIO when the last writer has gone.
            pass
        finally:
            os.close(ours)
            process.kill()
    return printed.decode()
