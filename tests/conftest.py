# SPDX-License-Identifier: GPL-2.0-only
"""Options of our own tests, and the table of injected faults below their summary."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conformance.injection import SEED, TALLY, table

# A shell starts background jobs with SIGINT ignored, and the commands under test inherit that: a command
# that must end by SIGINT would not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same for SIGHUP below nohup(1). A handler that does nothing keeps these tests alive; a child starts without it.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)

# A developer's own defaults (conformance/command_line/settings.py) must not change the tests.
os.environ["XDG_CONFIG_HOME"] = os.devnull


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--faults", type=int, default=0, metavar="N", help="make N tries of each fault that is drawn")
    parser.addoption("--examples", type=int, default=0, metavar="N", help="make N examples of what a guest may say")
    parser.addoption("--nested", action="store_true", help="also judge kernels under KVM in an emulated guest")
    parser.addoption("--faults-seed", type=int, default=SEED, metavar="SEED", help="draw them from another seed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the outcomes of the injected faults."""
    rows = config.stash.get(TALLY, [])
    if rows:
        terminalreporter.section(f"injected faults, seed {config.option.faults_seed}")
        for line in table(rows):
            terminalreporter.write_line(line)
