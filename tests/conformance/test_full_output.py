# SPDX-License-Identifier: GPL-2.0-only
"""Standard output that takes nothing: a report that nobody gets is no success."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ExitCode, HostError
from conformance.report.live import LiveReporter, PlainReporter, Reporter, check_heard
from tests.conformance import report_runs

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
    ],
)
def test_a_report_that_cannot_be_written_is_one_sentence(arguments: tuple[str, ...]) -> None:
    """Every command whose purpose is what it prints says that it could not, and exits with 128."""
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
    """After `| head` nothing is lost that anybody wanted, and a run without a reporter has nothing to lose."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        reporter = PlainReporter(pipe)
        reporter.finish(report_runs.sick())
        check_heard(reporter)
    check_heard(None)
