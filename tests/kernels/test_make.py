# SPDX-License-Identifier: GPL-2.0-only
"""What a build prints, which is a stranger's text, is safe to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import KernelError
from kernels import make


def test_a_log_can_be_printed(tmp_path: Path) -> None:
    """What a build prints reaches its log without control characters."""
    log = tmp_path / "build.log"

    make.run(["printf", r"  CC  net/a\033[2J.o\nsaid \033]0;title\007\r\n"], tmp_path, log, lambda _: None)

    assert log.read_text() == "  CC  net/a\\x1b[2J.o\nsaid \\x1b]0;title\\x07\n"


def test_an_error_is_one_line(tmp_path: Path) -> None:
    """The first error of a build that fails is in the sentence, and the log in the hint."""
    log = tmp_path / "build.log"
    with pytest.raises(KernelError, match=r"a\.c:1:2: error: odd") as caught:
        make.run(["sh", "-c", "echo 'a.c:1:2: error: odd'; exit 2"], tmp_path, log, lambda _: None)
    assert str(log) in caught.value.hint
