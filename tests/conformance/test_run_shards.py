# SPDX-License-Identifier: GPL-2.0-only
"""Shards of a real kernel, judged one by one and merged."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.report.events import read
from tests.conformance.conform import conform

pytestmark = pytest.mark.vm


def test_three_shards_of_two_cases(tmp_path: Path) -> None:
    """Each case is judged once; the empty share is not a failure."""
    for number in (1, 2, 3):
        done = conform("run", "-k", "test_redirect and ingress-to-local-tcp4-udp4", "--shard", f"{number}/3",
                       "--results", str(number), cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    done = conform("merge", "1", "2", "3", "--output", "whole", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    run = read(tmp_path / "whole")
    assert sorted(case.name for case in run.cases["debian-6.12"]) == [
        "sockhash-ingress-to-local-tcp4-udp4",
        "sockmap-ingress-to-local-tcp4-udp4",
    ]
