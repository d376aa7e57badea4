# SPDX-License-Identifier: GPL-2.0-only
"""How the guest reads and writes the kernel's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from conformance.guestlib import procfs


def test_a_file_that_can_only_be_written_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open drop_caches for writing only: opened for reading, too, no memory would be released."""
    path, flags = tmp_path / "drop_caches", list[int]()
    path.touch()
    sound = os.open

    def watched(name: Any, how: int) -> int:
        flags.append(how)
        return sound(name, how)

    monkeypatch.setattr(os, "open", watched)
    procfs.write(str(path), "2")

    assert [how & os.O_ACCMODE for how in flags] == [os.O_WRONLY]
    assert path.read_text() == "2"


def test_a_setting_is_set_back(tmp_path: Path) -> None:
    """A setting lasts as long as the case that needs it; a file that this kernel lacks is skipped."""
    path = tmp_path / "ptrace_scope"
    path.write_text("1\n")
    with procfs.setting(str(path), "0"):
        assert path.read_text()[:1] == "0"
    assert path.read_text()[:1] == "1"
    with procfs.setting(str(tmp_path / "none"), "0"):
        assert not (tmp_path / "none").exists()
