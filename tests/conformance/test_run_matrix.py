# SPDX-License-Identifier: GPL-2.0-only
"""`conform matrix` on real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.report.night import nights
from tests.conformance.conform import conform

pytestmark = pytest.mark.vm

CONFIG = """
    kernels = ["debian:6.12", "./unbuilt", "debian:6.18"]
    cases = ["redirect/sockmap-ingress-to-local-tcp4-udp4"]
    [outputs]
    folder = "nights"
    formats = ["junit"]
"""


def test_a_night_with_a_dead_kernel(tmp_path: Path) -> None:
    """It costs its own rows only, and the night is kept with its log, its report and its price."""
    (tmp_path / "conform.toml").write_text(CONFIG)
    (tmp_path / "unbuilt").mkdir()
    for name in ("Kconfig", "Makefile"):
        (tmp_path / "unbuilt" / name).touch()

    done = conform("matrix", cwd=tmp_path)

    assert done.returncode == 125, done.stdout + done.stderr
    assert "NOT JUDGED: ./unbuilt" in done.stdout
    assert "2 kernels judged in 0 min" in done.stdout
    (night,) = nights(tmp_path / "nights")
    assert {slug: len(cases) for slug, cases in night.run.cases.items()} == {"debian-6.12": 1, "debian-6.18": 1}
    assert (night.path / "report.xml").is_file()
    assert not night.run.unexpected()
