# SPDX-License-Identifier: GPL-2.0-only
"""`conform run`: judge kernels, or go on with a run that was interrupted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

from common.errors import ExitCode
from common.errors import UsageError
from conformance.report.live import choose
from conformance.run import resume
from conformance.run.ledger import Ledger
from conformance.run.session import hold

Parse = Callable[[Sequence[str]], argparse.Namespace]


def run(options: argparse.Namespace, parse: Parse) -> int:
    """Judge the kernels asked for and return the exit code; `parse` reads the command line of an earlier sitting."""
    before = None
    if options.resume:
        options, before = resume.recall(options.resume, _only_resuming(options, parse))
    native = any(
        each in ("--collect-only", "--co", "-h", "--help") or each.startswith("-v") for each in options.pytest_arguments
    )
    results = Path(options.conform_results) if options.conform_results else None
    ledger = Ledger(reporter=None if native else choose(sys.stdout), results=results, before=before)
    if before is not None and resume.is_complete(before):
        ledger.begin({})
        code = ledger.end(ledger.earlier)
    else:
        code = hold(options, ledger, native=native)
    return int(swapped(code) if options.find_fix and not native else code)


def swapped(code: ExitCode) -> ExitCode:
    """Return the code for a bisection that looks for the commit that mended something."""
    return {ExitCode.OK: ExitCode.UNEXPECTED, ExitCode.UNEXPECTED: ExitCode.OK}.get(code, code)


def _only_resuming(options: argparse.Namespace, parse: Parse) -> Parse:
    """Return what reads the command line of an earlier sitting; UsageError if this one asks for anything else."""
    if vars(options) != vars(parse(["run", "--resume", options.resume])):
        raise UsageError(
            "--resume goes on with the options that the run was begun with, and takes no others",
            hint=f"./conform run --resume {options.resume}",
        )
    return parse
