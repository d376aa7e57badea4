# SPDX-License-Identifier: GPL-2.0-only
"""`conform matrix` on real kernels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.report.events import NAME
from conformance.report.stored_runs import stored_runs
from tests.conformance.conform import conform, reraise

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
    assert "./unbuilt: the tree" in done.stdout
    assert "2 kernels judged in 0 min" in done.stdout
    (stored,) = stored_runs(tmp_path / "nights", reraise)
    assert {slug: len(cases) for slug, cases in stored.run.cases.items()} == {"debian-6.12": 1, "debian-6.18": 1}
    assert (stored.path / "report.xml").is_file()
    assert not stored.run.unexpected()

    # What was judged is not judged again; the kernel that was not is tried again.
    log = stored.path / NAME
    judged = log.read_text().count('"event":"case"')
    again = conform("matrix", "--resume", os.fspath(stored.path), cwd=tmp_path)
    assert again.returncode == 125, again.stdout + again.stderr
    assert "NOT JUDGED: ./unbuilt" in again.stdout
    assert log.read_text().count('"event":"case"') == judged
    refused = conform("run", "--resume", os.fspath(stored.path), cwd=tmp_path)
    assert refused.returncode == 128
    assert f"hint: ./conform matrix --resume {stored.path}" in refused.stderr
    other = conform("matrix", "--resume", os.fspath(stored.path), "--shard", "1/2", cwd=tmp_path)
    assert (other.returncode, "takes no others" in other.stderr) == (128, True)
    (tmp_path / "conform.toml").write_text(CONFIG.replace(', "debian:6.18"', ""))
    changed = conform("matrix", "--resume", os.fspath(stored.path), cwd=tmp_path)
    assert changed.returncode == 128
    assert "conform.toml no longer names the kernels of the interrupted run" in changed.stderr
