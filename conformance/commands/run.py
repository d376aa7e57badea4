# SPDX-License-Identifier: GPL-2.0-only
"""`conform run`: judge kernels, or continue a run that was interrupted."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from common.errors import ExitCode
from common.say import add
from conformance.report.events import Run
from conformance.report.live import choose
from conformance.report.style import Style
from conformance.report.text import report_lines, unexpected_section, verdict_lines
from conformance.run import resume
from conformance.run.consent import for_host
from conformance.run.options import specs_asked
from conformance.run.recorder import RunRecorder
from conformance.run.results import Claim, closing_lines, located, new_folder
from conformance.run.session import hold

Parse = Callable[[Sequence[str]], argparse.Namespace]

_LISTING = ("--collect-only", "--co", "-h", "--help")
"""pytest's options that run no tests."""


def run(options: argparse.Namespace, parse: Parse) -> int:
    """Judge the chosen kernels and return the exit code; `parse` reads the command line of a resumed run."""
    lists = any(each in _LISTING for each in options.pytest_arguments)
    native = lists or any(each.startswith("-v") for each in options.pytest_arguments)
    before, claim = None, None
    with ExitStack() as stack:
        if options.resume:
            # Claim the folder before reading it: another run may be writing it.
            claim = stack.enter_context(Claim(Path(options.resume), again=True))
            asked = options
            options, before = resume.recall(options.resume, _only_resuming(options, parse))
            options.verbosity, options.yes = asked.verbosity, asked.yes
            options.conform_results = asked.resume
        elif options.conform_results:
            claim = stack.enter_context(Claim(Path(options.conform_results)))
        elif not lists:
            options.conform_results = os.fspath(stack.enter_context(new_folder()))
        results = Path(options.conform_results) if options.conform_results else None
        reporter = (
            None if native else choose(sys.stdout, partial(_report, results, options.verbosity), options.verbosity)
        )
        recorder = RunRecorder(reporter=reporter, results=results, claim=claim, before=before)
        try:
            if not (lists or (before is not None and resume.is_complete(before))):
                for_host(specs_asked(options), yes=options.yes)
            code = _judged(options, recorder, native=native)
        finally:
            if results is not None:
                add(closing_lines(results, recorder.run), sys.stdout)
    return int(swapped(code) if options.find_fix and not native else code)


def _judged(options: argparse.Namespace, recorder: RunRecorder, *, native: bool) -> ExitCode:
    if recorder.before is None or not resume.is_complete(recorder.before):
        return hold(options, recorder, native=native)
    recorder.begin({})
    return recorder.end(recorder.earlier)


def _report(results: Path | None, verbosity: int, run: Run, style: Style) -> Sequence[str]:
    """Return the report, with evidence paths relative to the current directory."""
    run = located(run, results) if results is not None else run
    if verbosity >= 0:
        return report_lines(run, style)
    unexpected = unexpected_section(run, style)
    return [*unexpected, *[""] * bool(unexpected), *verdict_lines(run, style)]


def swapped(code: ExitCode) -> ExitCode:
    """Return the exit code for a bisection that looks for a fix."""
    return {ExitCode.OK: ExitCode.UNEXPECTED, ExitCode.UNEXPECTED: ExitCode.OK}.get(code, code)


def _only_resuming(options: argparse.Namespace, parse: Parse) -> Parse:
    """Return the parser for the resumed run's command line; UsageError if this command line has other options."""
    resume.check_alone(options, parse(["run", "--resume", options.resume]), "run")
    return parse
