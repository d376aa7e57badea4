# SPDX-License-Identifier: GPL-2.0-only
"""Standard output that cannot be written: a lost report is an error."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ExitCode, HostError
from conformance import cli
from conformance.report.events import NAME
from conformance.report.live import LiveReporter, PlainReporter, Reporter, check_heard
from tests.conformance import report_runs
from tests.conformance.test_reporting import write

ROOT = Path(__file__).resolve().parents[2]
LOG = os.fspath(report_runs.GOLDEN / "planted.jsonl")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("config",),
        ("explain", "redirect/sockmap-send-to-local-tcp4-udp4"),
        ("report", LOG),
        ("report", LOG, "--format", "junit"),
        ("run", "--case", "steer", "--", "--collect-only"),
        ("run", "--", "--help"),
    ],
)
def test_a_report_that_cannot_be_written_is_one_sentence(arguments: tuple[str, ...]) -> None:
    """Every command that exists to print says that it could not, and exits with 128."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "conformance", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    *_, sentence, hint = done.stderr.splitlines()
    assert sentence == "conform: cannot write to standard output: No space left on device"
    assert hint.startswith("  hint: ")
    assert done.returncode == ExitCode.BROKEN


def _gone(module: str, arguments: tuple[str, ...], cwd: Path, *, errors: bool = False) -> tuple[int, str]:
    """Run a command whose reader is gone, of both streams with `errors`; return its exit code and what it said."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
            stdout=writer,
            stderr=writer if errors else subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("config",),
        ("doctor",),
        ("list", "--json"),
        ("kernels", "list"),
        ("defects",),
        ("boundaries",),
        ("teeth", "--list"),
        ("explain", "redirect/sockmap-send-to-local-tcp4-udp4"),
        ("report", LOG),
        ("report", LOG, "--format", "html"),
        ("run", "--case", "steer", "--", "--collect-only"),
    ],
)
def test_a_reader_that_goes_away_ends_a_command_in_silence(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """`./conform list | head -1` ends as other commands do that SIGPIPE ends: no word, and 141."""
    assert _gone("conformance", arguments, tmp_path) == (ExitCode.UNREAD, "")
    if arguments == ("config",):
        assert _gone("conformance", arguments, tmp_path, errors=True) == (ExitCode.UNREAD, "")


def test_the_help_of_the_tests_is_read_by_nobody(tmp_path: Path) -> None:
    """`./conform test` is a separate program with the same behaviour."""
    assert _gone("conformance.host.checks", ("--help",), tmp_path) == (ExitCode.UNREAD, "")


def test_a_verdict_needs_no_reader(tmp_path: Path) -> None:
    """A comparison and a merge are stored, and exit with what they found, whether anybody reads it or not."""
    for name, run in (("good", report_runs.healthy()), ("sick", report_runs.sick())):
        write(run, tmp_path / name)

    code, errors = _gone("conformance", ("merge", "good", "sick", "--output", "both"), tmp_path)
    assert (code, errors) == (ExitCode.UNEXPECTED, "")
    assert (tmp_path / "both" / NAME).is_file()

    code, _ = _gone("conformance", ("compare", "good", "good", "--again", "0", "--results", "c"), tmp_path, errors=True)
    assert code == ExitCode.CANNOT_JUDGE, "cases without observations are not judged"
    assert (tmp_path / "c" / "comparison.json").is_file()


def test_an_error_that_is_no_readers_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """EPIPE from a socket of QEMU's is a fault of the suite, not of a reader."""

    def fail(_: object) -> int:
        raise BrokenPipeError(errno.EPIPE, "planted")

    monkeypatch.setattr(cli, "_run", fail)

    assert cli.main(["run"]) == ExitCode.BROKEN
    assert "internal error: BrokenPipeError" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [PlainReporter, LiveReporter])
def test_a_run_that_nobody_can_read_is_an_error(kind: type[PlainReporter | LiveReporter]) -> None:
    """A reporter never stops a run; what it could not write is an error when the run is over."""
    with Path("/dev/full").open("w") as full:
        reporter: Reporter = kind(full)
        check_heard(reporter)
        reporter.finish(report_runs.sick())
        with pytest.raises(HostError, match="cannot write to standard output: No space left on device"):
            check_heard(reporter)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """A pipe closed by `| head` is not an error, and neither is a run without a reporter."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        reporter = PlainReporter(pipe)
        reporter.finish(report_runs.sick())
        check_heard(reporter)
    check_heard(None)
