# SPDX-License-Identifier: GPL-2.0-only
"""The leaks cases on a real kernel, as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.report.events import read
from tests.conformance.conform import conform

pytestmark = pytest.mark.vm


def test_the_counters_of_a_sound_kernel_balance_and_a_run_says_over_how_many_rounds(tmp_path: Path) -> None:
    """Memory included, nothing is left of sockets that left a map; the event log has the number of rounds."""
    arguments = ("--kernel", "debian:6.12", "--rounds", "20", "--results", "out", "-k", "test_leaks and unix_dgram")
    done = conform("run", *arguments, "-n", "2", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    run = read(tmp_path / "out")
    cases = [case for slug in run.slugs for case in run.cases[slug]]
    assert cases
    assert {case.params["rounds"] for case in cases} == {"20"}
