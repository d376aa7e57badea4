# SPDX-License-Identifier: GPL-2.0-only
"""The insertion cases on a real kernel: nothing unexpected, and nothing skipped that the image has a module for."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.model import Verdict
from conformance.report.events import read
from tests.conformance.conform import conform

pytestmark = pytest.mark.vm


def test_the_modules_the_cases_need_are_in_the_guest(tmp_path: Path) -> None:
    """The cases for SCTP, TIPC, KCM, TLS and SMC (whose module needs InfiniBand's) are asked."""
    done = conform("run", "--kernel", "debian:6.12", "--results", "out", "-k", "test_insert", "-n", "2", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    run = read(tmp_path / "out")
    assert [case.name for slug in run.slugs for case in run.cases[slug] if case.verdict is Verdict.SKIP] == []
