# SPDX-License-Identifier: GPL-2.0-only
"""Run one pytest session with the suite's own output and exit codes."""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext

from common.errors import ExitCode, HostError, UnreadError, UsageError
from common.say import guarded
from common.words import counted
from conformance.groups import cases
from conformance.report.live import check_heard
from conformance.run.deadline import too_late
from conformance.run.kernels import make_ready
from conformance.run.options import collects_elsewhere, expression_of
from conformance.run.recorder import RunRecorder
from conformance.run.run_options import read_options
from conformance.run.selection import LISTING, count, require

_FEW = 48
"""Cases that take about as long as starting the workers."""


def hold(options: argparse.Namespace, recorder: RunRecorder, *, native: bool = False) -> ExitCode:
    """Run one session, with its results in `recorder`; `native` leaves the output to pytest. Raises what broke it."""
    asked = read_options(options, expression_of(options))  # raises an error before anything is booted
    recorder.deadline = asked.deadline
    chosen = None if collects_elsewhere(options) else require(asked.wanted, list(asked.specs), cases())
    if chosen is not None and not count(chosen):
        return _empty(asked.shard, recorder)
    few = chosen is not None and count(chosen) <= _FEW
    if not native:
        specs = {slug: spec for slug, spec in asked.specs.items() if chosen is None or chosen[slug]}
        recorder.open_log()
        ahead = few and not (options.n or options.pytest_arguments)
        make_ready(recorder, specs, asked.machine, chosen=chosen, start_ahead=ahead)
    if chosen is not None and not native:
        recorder.phase(f"collecting {counted(count(chosen), 'case')}")
    # Imported only now, while the machine starts: pytest takes a tenth of a second to import.
    from conformance.run.pytest_run import run

    with guarded() if native else nullcontext():
        status = run(options, recorder, asked, native=native, few=few)
    if isinstance(recorder.fault, (HostError, UnreadError) if native else Exception):
        raise recorder.fault
    code = _exit_code(status, recorder, native=native)
    if recorder.interrupted is None:
        check_heard(recorder.reporter)
    return code


def _exit_code(status: int, recorder: RunRecorder, *, native: bool) -> ExitCode:
    import pytest

    if recorder.run is not None:
        return recorder.exit_code()
    if recorder.interrupted is not None:
        return recorder.interrupted
    if native and status == pytest.ExitCode.OK:
        return ExitCode.OK
    if time.monotonic() >= recorder.expires:
        raise too_late(recorder.deadline)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED and recorder.shard:
        return _empty(recorder.shard, recorder)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError("no case matches", hint=LISTING)
    return ExitCode.BROKEN


def _empty(shard: str, recorder: RunRecorder) -> ExitCode:
    """Report a run without cases: of few cases in many shards some are empty, and `merge` fails if all are."""
    recorder.shard = shard
    recorder.note(f"no case falls into shard {shard}")
    recorder.begin({})
    recorder.end(0.0)
    return ExitCode.OK
