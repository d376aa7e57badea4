# SPDX-License-Identifier: GPL-2.0-only
"""`conform matrix`: judge every kernel of a conform.toml in one session, and save the results."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from common import foreign
from common.errors import ConformError, UsageError
from common.say import add, put
from conformance.nightly.config import DEFAULT, NAME, MatrixConfig, read
from conformance.report.events import Run
from conformance.report.findings import provenance
from conformance.report.live import choose
from conformance.report.store import write
from conformance.report.stored_runs import stored_runs
from conformance.report.style import Style
from conformance.report.text import (
    head,
    known_section,
    skipped_section,
    unexpected_section,
    unseen_section,
    verdict_lines,
)
from conformance.run.deadline import seconds_of
from conformance.run.memory import Peak
from conformance.run.recorder import RunRecorder
from conformance.run.results import closing_lines, located
from conformance.run.scheduler import durations
from conformance.run.session import hold

_LOOK = 2.0
"""Seconds between two samples of the memory."""


def config(_: argparse.Namespace) -> int:
    """Print the default configuration."""
    put(DEFAULT.read_text(encoding="utf-8").splitlines(), sys.stdout)
    return 0


def matrix(options: argparse.Namespace) -> int:
    """Judge all kernels and return the exit code of the run."""
    asked = _asked(options)
    folder = Path(options.results) if options.results else _new_results(asked)
    last = stored_runs(asked.folder)
    seed = int(datetime.now(UTC).strftime("%Y%m%d"))
    asked_for = asked.options(options.shard or "", options.case or (), seed)
    recorder = RunRecorder(
        deadline=seconds_of(asked_for.conform_total_deadline),
        reporter=choose(sys.stdout, partial(_conclude, folder), options.verbosity),
        results=folder,
        forgiving=True,
        durations=durations(last[-1].run) if last else {},
    )
    peak = Peak(os.getpid(), _LOOK)
    try:
        code = hold(asked_for, recorder)
    finally:
        most = peak.stop()
    if recorder.run is not None:
        for name in asked.formats:
            write(recorder.run, name, folder)
        closing = closing_lines(folder, recorder.run, resumable=False)
        add([foreign.line(_cost(recorder.run, most)), *closing], sys.stdout)
    return int(code)


def _asked(options: argparse.Namespace) -> MatrixConfig:
    if options.file:
        return read(Path(options.file))
    if not Path(NAME).is_file():
        raise UsageError(f"there is no {NAME} here", hint=f"write one with: ./conform config > {NAME}")
    return read(Path(NAME))


def _new_results(asked: MatrixConfig) -> Path:
    """Name a folder after the current second; another run in the same second is a mistake."""
    folder = asked.folder / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    if folder.exists():
        raise ConformError(f"{folder} exists already", hint="another matrix was started in the same second; try again")
    return folder


def _conclude(folder: Path, run: Run, style: Style) -> Sequence[str]:
    """Sum up the run, without the grids: those are in the reports."""
    run = located(run, folder)
    lines = [*head(run, style), ""]
    for slug in run.slugs:
        kernel = run.kernel(slug)
        if kernel.error:
            lines += [*style.wrap(f"{kernel.spec}: {kernel.error}", first="NOT JUDGED: "), ""]
    for section in (unexpected_section, known_section, skipped_section, unseen_section):
        if found := section(run, style):
            lines += [*found, ""]
    return [*lines, *verdict_lines(run, style)]


def _cost(run: Run, memory: float) -> str:
    """Say how long the run took."""
    built = sum(kernel.template == "built" for kernel in run.kernels.values())
    alive = sum(not kernel.error for kernel in run.kernels.values())
    seconds = run.finish.seconds if run.finish is not None else 0.0
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{alive} kernels judged in {minutes} min {rest} s, templates built for {built} of them,"
        f" peak memory {memory:.0f} MiB, {provenance(run)}"
    )
