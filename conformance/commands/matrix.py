# SPDX-License-Identifier: GPL-2.0-only
"""`conform matrix`: judge every kernel of a conform.toml in one session, and save the results."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from common import foreign
from common.errors import ConformError, UsageError
from common.say import add, note, put
from common.words import counted
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
from conformance.run import resume
from conformance.run.deadline import seconds_of
from conformance.run.memory import Peak
from conformance.run.options import by_slug
from conformance.run.recorder import RunRecorder
from conformance.run.results import Claim, closing_lines, located
from conformance.run.scheduler import durations
from conformance.run.session import hold

Parse = Callable[[Sequence[str]], argparse.Namespace]

_LOOK = 2.0
"""Seconds between two samples of the memory."""


def config(_: argparse.Namespace) -> int:
    """Print the default configuration."""
    put(DEFAULT.read_text(encoding="utf-8").splitlines(), sys.stdout)
    return 0


def matrix(options: argparse.Namespace, parse: Parse) -> int:
    """Judge all kernels and return the exit code of the run; `parse` reads the command line of a resumed run."""
    before, claim, verbosity = None, None, options.verbosity
    with ExitStack() as stack:
        if options.resume:
            # Claim the folder before reading it: another run may be writing it.
            claim = stack.enter_context(Claim(Path(options.resume), again=True))
            folder = Path(options.resume)
            options, before = resume.recall(options.resume, _only_resuming(options, parse), "matrix")
        asked = _asked(options)
        if before is None:
            folder = Path(options.results) if options.results else _new_results(asked)
        last = stored_runs(asked.folder, _left_out)
        asked_for = asked.options(options.shard or "", options.case or (), _seed(before))
        if before is not None:
            resume.check_specs(before, by_slug(asked.kernels), options.file or NAME)
        recorder = RunRecorder(
            deadline=seconds_of(asked_for.conform_total_deadline),
            reporter=choose(sys.stdout, partial(_conclude, folder), verbosity),
            results=folder,
            claim=claim,
            before=before,
            forgiving=True,
            durations=durations(last[-1].run) if last else {},
        )
        return _judged(asked, asked_for, recorder, folder)


def _judged(asked: MatrixConfig, asked_for: argparse.Namespace, recorder: RunRecorder, folder: Path) -> int:
    """Judge the cases, write the reports, and return the exit code."""
    peak = Peak(os.getpid(), _LOOK)
    try:
        if recorder.before is not None and resume.is_complete(recorder.before):
            recorder.begin({})
            code = recorder.end(recorder.earlier)
        else:
            code = hold(asked_for, recorder)
    finally:
        most = peak.stop()
    if recorder.run is not None:
        for name in asked.formats:
            write(recorder.run, name, folder)
        add([foreign.line(_cost(recorder.run, most)), *closing_lines(folder, recorder.run)], sys.stdout)
    return int(code)


def _seed(before: Run | None) -> int:
    """Return the hammer's random seed: the date on which the run was started."""
    started = before.start.started if before is not None else datetime.now(UTC).isoformat()
    return int(started[:10].replace("-", ""))


def _only_resuming(options: argparse.Namespace, parse: Parse) -> Parse:
    """Return the parser for the resumed run's command line; UsageError if this command line has other options."""
    alone = parse(["matrix", "--resume", options.resume])
    resume.check_alone(options, alone, "matrix")
    return parse


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


def _left_out(error: UsageError) -> None:
    """Say that an earlier run is not used to order the kernels; the night does not depend on it."""
    note(f"conform: left out: {error}")


def _cost(run: Run, memory: float) -> str:
    """Say how long the run took."""
    built = sum(kernel.template == "built" for kernel in run.kernels.values())
    alive = sum(not kernel.error for kernel in run.kernels.values())
    seconds = run.finish.seconds if run.finish is not None else 0.0
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{counted(alive, 'kernel')} judged in {minutes} min {rest} s, templates built for {built} of them,"
        f" peak memory {memory:.0f} MiB, {provenance(run)}"
    )
