# SPDX-License-Identifier: GPL-2.0-only
"""Start pytest with our plugins and arguments."""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path

import pytest

from conformance.run.controller import Controller
from conformance.run.options import as_arguments
from conformance.run.recorder import RunRecorder
from conformance.run.run_options import RunOptions
from conformance.run.stash import OPTIONS

_ROOT = Path(__file__).resolve().parents[2]
_SELECTING = ("-k", "-n", "--lf", "--last-failed", "--ff", "--sw", "--collect-only", "--co", "-m", "--pdb", "-x")
"""Pytest arguments that select few cases: with them, the default is no workers."""


def run(options: argparse.Namespace, recorder: RunRecorder, asked: RunOptions, *, native: bool, few: bool) -> int:
    """Run the session and return pytest's exit code; `few` cases need no workers, `native` leaves pytest its output."""
    ours = _Ours(recorder, asked)
    plugins: list[object] = [ours] if native else [ours, _Quiet()]
    return pytest.main(_pytest_arguments(options, list(options.pytest_arguments), few=few), plugins=plugins)


class _Quiet:
    """Keep pytest's terminal silent: the suite speaks for itself."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        manager = config.pluginmanager
        manager.unregister(name="terminalreporter")
        manager.register(pytest.TerminalReporter(config, io.StringIO()), "terminalreporter")


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
        # A warning of a library is not a finding about a kernel; our own tests turn warnings into errors.
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
    # The `net` of `-k net` is not a path, though a kernel tree has a directory of that name: with nothing else to
    # collect, pytest would import the tests of that tree.
    if not any(_names_cases(each) for each in rest):
        arguments.append(os.fspath(_ROOT / "conformance" / "cases"))
    return arguments + rest


def _names_cases(argument: str) -> bool:
    """Return whether an argument for pytest is a file or folder of this checkout, and no option or its value."""
    path = Path(argument.split("::", maxsplit=1)[0])
    return not argument.startswith("-") and path.exists() and _ROOT in path.resolve().parents
