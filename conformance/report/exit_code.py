# SPDX-License-Identifier: GPL-2.0-only
"""The exit code of a run: a function of its results."""

from __future__ import annotations

from common.errors import ExitCode
from conformance.model import Verdict
from conformance.report.events import Run


def exit_code_of(run: Run) -> ExitCode:
    """Return the exit code of a run that was neither interrupted nor broken: see `./conform run --help`."""
    counts = run.counts()
    if any(counts[verdict] for verdict in Verdict if not verdict.expected and verdict is not Verdict.INFRA):
        return ExitCode.UNEXPECTED
    spoilt = any(case.host for cases in run.cases.values() for case in cases)
    if spoilt or any(kernel.host for kernel in run.kernels.values()):
        return ExitCode.BROKEN
    judged = sum(counts[verdict] for verdict in Verdict if verdict not in (Verdict.SKIP, Verdict.INFRA))
    dead = any(kernel.error for kernel in run.kernels.values())
    cannot = counts[Verdict.INFRA] or not judged or dead or run.unseen() or run.start.missing
    return ExitCode.CANNOT_JUDGE if cannot else ExitCode.OK
