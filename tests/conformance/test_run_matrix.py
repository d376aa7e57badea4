# SPDX-License-Identifier: GPL-2.0-only
"""`conform matrix` on real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.report.stored_runs import stored_runs
from tests.conformance.conform import conform

pytestmark = pytest.mark.vm

CONFIG = """
    kernels = ["debian:6.12", "./unbuilt", "debian:6.18"]
    cases = ["redirect/sockmap-ingress-to-local-tcp4-udp4"]
    [outputs]
    folder = "nights"
    formats = ["junit"]
"""


def test_a_matrix_with_a_dead_kernel(tmp_path: Path) -> None:
    """A kernel that does not boot costs its own results only; log, report and duration of the run are saved."""
    (tmp_path / "conform.toml").write_text(CONFIG)
    (tmp_path / "unbuilt").mkdir()
    for name in ("Kconfig", "Makefile"):
        (tmp_path / "unbuilt" / name).touch()

    done = conform("matrix", cwd=tmp_path)

    assert done.returncode == 125, done.stdout + done.stderr
    assert "NOT JUDGED: ./unbuilt" in done.stdout
    assert "2 kernels judged in 0 min" in done.stdout
    (stored,) = stored_runs(tmp_path / "nights")
    assert {slug: len(cases) for slug, cases in stored.run.cases.items()} == {"debian-6.12": 1, "debian-6.18": 1}
    assert (stored.path / "report.xml").is_file()
    assert not stored.run.unexpected()
