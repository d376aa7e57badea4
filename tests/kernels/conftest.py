# SPDX-License-Identifier: GPL-2.0-only
"""Every test of kernels has a cache of its own; those that fetch have an archive of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels import apt
from tests.kernels import fakes


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sockmap-conformance"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fakes.Archive:
    """An archive with nothing in it, which apt's sources name."""
    made = fakes.Archive(tmp_path / "archive")
    monkeypatch.setattr(apt, "ETC", made.etc)
    return made
