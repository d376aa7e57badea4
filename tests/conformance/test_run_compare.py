# SPDX-License-Identifier: GPL-2.0-only
"""`conform compare` on real kernels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.conform import conform

pytestmark = pytest.mark.vm

CASE = "sockmap-ingress-to-egress-tcp4-vsock_stream"


def test_two_kernels_then_their_results(tmp_path: Path) -> None:
    """A lost feature is a regression against base on every try; with the promises of its own version it is expected."""
    strictly = conform("compare", "debian:6.12", "debian:6.1", "-k", CASE, "--strict", "--again=2", "--results=out",
                       cwd=tmp_path)  # fmt: skip

    assert strictly.returncode == 1, strictly.stdout + strictly.stderr
    assert "1 regression   0 fixes" in strictly.stdout
    assert "base      outcome delivered (2 of 2 tries)" in strictly.stdout
    assert "head      outcome not-inserted-EOPNOTSUPP (2 of 2 tries)" in strictly.stdout
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [len(stored[0]["cases"][0][side]["tries"]) for side in ("base", "head")] == [3, 3]

    folders = conform("compare", "out/base", "out/head", "--again=1", cwd=tmp_path)

    assert folders.returncode == 0, folders.stdout + folders.stderr
    assert "1 as promised" in folders.stdout
    assert "repeated once" in " ".join(folders.stdout.split())
