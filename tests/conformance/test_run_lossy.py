# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that loses every seventh redirected message is judged about as fast as a sound one, and as correctly."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest

from conformance.model import Verdict
from conformance.report.events import Run, read
from conformance.run.sparing import CONFIRMED
from tests.conformance.conform import ROOT, environment

pytestmark = pytest.mark.vm

CASES = "sockmap-ingress-to-egress-udp4 or sockmap-ingress-to-egress-unix_stream or sockmap-ingress-to-egress-udp6"


@pytest.fixture(scope="module", name="run")
def fixture_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of some redirect cases on such a kernel, in one process."""
    results = tmp_path_factory.mktemp("lossy")
    arguments = ["run", "--kernel", "debian:6.12", "--results", str(results), "-k", CASES]
    done = subprocess.run(
        [sys.executable, "-m", "conformance.lossy", *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return read(results)


def test_counts_add_up(run: Run) -> None:
    """Every case has a verdict, which reports only losses."""
    (cases,) = run.cases.values()
    assert len(cases) == sum(run.start.selected.values()) > 30
    assert not run.unseen()
    counts = run.counts()
    assert counts.keys() <= {Verdict.PASS, Verdict.FAIL}
    assert counts[Verdict.FAIL] > len(cases) / 2
    for case in run.unexpected():
        # Where data circulates, lost data does not run the program again.
        consequence = "the program" if case.params["layout"] == "peer" else "nowhere"
        assert all("nowhere" in each or consequence in each for each in case.differences), case.differences


def test_the_first_are_confirmed(run: Run) -> None:
    """Only the first cases of a symptom take a fresh clone, and the others name them."""
    failed = run.unexpected()
    believed = [case for case in failed if case.confirmed_by]
    confirmed = [case.id for case in failed if not case.confirmed_by and len(case.tries) > 1]
    assert len(believed) > len(failed) / 2
    assert all(set(case.confirmed_by) <= set(confirmed) for case in believed)
    assert all(len(case.confirmed_by) >= CONFIRMED for case in believed)


def test_the_others_do_not_wait(run: Run) -> None:
    """A case with a confirmed symptom takes a fraction of the time of the confirming cases."""
    slow = [case.seconds for case in run.unexpected() if not case.confirmed_by]
    hasty = [case.seconds for case in run.unexpected() if case.hasty]
    assert statistics.median(hasty) < statistics.median(slow) / 2
