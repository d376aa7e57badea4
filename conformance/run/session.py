# SPDX-License-Identifier: GPL-2.0-only
"""Run one pytest session with the suite's own output and exit codes."""

from __future__ import annotations

import argparse
import io
import os
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from common.errors import ExitCode, HostError, UnreadError, UsageError
from common.say import guarded
from conformance.groups import cases
from conformance.report.live import check_heard
from conformance.run.controller import Controller
from conformance.run.deadline import too_late
from conformance.run.kernels import make_ready
from conformance.run.options import as_arguments, collects_elsewhere, expression_of
from conformance.run.recorder import RunRecorder
from conformance.run.run_options import RunOptions, read_options
from conformance.run.selection import LISTING, count, require
from conformance.run.stash import OPTIONS

_ROOT = Path(__file__).resolve().parents[2]
_SELECTING = ("-k", "-n", "--lf", "--last-failed", "--ff", "--sw", "--collect-only", "--co", "-m", "--pdb", "-x")
"""Pytest arguments that select few cases: with them, the default is no workers."""
_FEW = 48
"""Cases that take about as long as starting the workers."""


class _Quiet:
    """Keep pytest's terminal silent: the suite speaks for itself."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        manager = config.pluginmanager
        manager.unregister(name="terminalreporter")
        manager.register(pytest.TerminalReporter(config, io.StringIO()), "terminalreporter")


def hold(options: argparse.Namespace, recorder: RunRecorder, *, native: bool = False) -> ExitCode:
    """Run one session, with its results in `recorder`; `native` leaves the output to pytest. Raises what broke it."""
    asked = read_options(options, expression_of(options))  # raises an error before anything is booted
    recorder.deadline = asked.deadline
    ours = _Ours(recorder, asked)
    plugins: list[object] = [ours] if native else [ours, _Quiet()]
    chosen = None if collects_elsewhere(options) else require(asked.wanted, list(asked.specs), cases())
    if chosen is not None and not count(chosen):
        return _empty(asked.shard, recorder)
    few = chosen is not None and count(chosen) <= _FEW
    if not native:
        specs = {slug: spec for slug, spec in asked.specs.items() if chosen is None or chosen[slug]}
        recorder.open_log()
        make_ready(recorder, specs, asked.machine, start_ahead=few and not (options.n or options.pytest_arguments))
    if chosen is not None and not native:
        recorder.phase(f"collecting {count(chosen)} case{'s' * (count(chosen) != 1)}")
    with guarded() if native else nullcontext():
        status = pytest.main(_pytest_arguments(options, list(options.pytest_arguments), few=few), plugins=plugins)
    if isinstance(recorder.fault, (HostError, UnreadError) if native else Exception):
        raise recorder.fault
    code = _exit_code(status, recorder, native=native)
    if recorder.interrupted is None:
        check_heard(recorder.reporter)
    return code


class _Ours:
    """Put this run's recorder and its options behind the plugin."""

    def __init__(self, recorder: RunRecorder, asked: RunOptions) -> None:
        self._recorder = recorder
        self._asked = asked

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[OPTIONS] = self._asked
        config.pluginmanager.register(Controller(config, self._recorder), "conform-controller")


def _pytest_arguments(options: argparse.Namespace, rest: list[str], *, few: bool) -> list[str]:
    # fmt: off
    arguments = [
        "--rootdir", os.fspath(_ROOT),
        "-c", os.fspath(_ROOT / "pyproject.toml"),
        "--capture", "no",
        # A warning of a library is no finding about a kernel; our own tests turn warnings into errors.
        "-o", "filterwarnings=ignore",
        # Installed for our own tests only; its import takes half a second.
        "-p", "no:hypothesispytest",
        # Leave nothing in /tmp: xdist would create a folder for each worker there.
        "-p", "no:tmpdir",
        *as_arguments(options),
    ]
    # fmt: on
    if options.k:
        arguments += ["-k", options.k]
    if options.conform_until_fail:
        arguments += ["--maxfail", "1"]
    if any(each.startswith("--tx") for each in rest):
        # Workers given by the user, perhaps on other machines: they need our sources, and their share.
        arguments += ["--dist", "load", "--rsyncdir", os.fspath(_ROOT)]
    elif options.n:
        arguments += ["-n", options.n]
    elif not (few or options.k or any(each.split("=")[0] in _SELECTING or "::" in each for each in rest)):
        arguments += ["-n", "auto"]
    # The `net` of `-k net` is no path to cases, though a kernel tree has a directory of that name: with nothing else to
    # collect, pytest would import the tests of that tree.
    if not any(_names_cases(each) for each in rest):
        arguments.append(os.fspath(_ROOT / "conformance" / "cases"))
    return arguments + rest


def _names_cases(argument: str) -> bool:
    """Return whether an argument for pytest is a file or folder of this checkout, and no option or its value."""
    path = Path(argument.split("::", maxsplit=1)[0])
    return not argument.startswith("-") and path.exists() and _ROOT in path.resolve().parents


def _exit_code(status: int, recorder: RunRecorder, *, native: bool) -> ExitCode:
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
