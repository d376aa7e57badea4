# SPDX-License-Identifier: GPL-2.0-only
"""Files that people and other programs wrote, and that may be something else."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

_MOST = 1 << 20
"""Bytes of a file that somebody wrote by hand."""


def small(path: Path) -> bytes:
    """Return a file that somebody wrote by hand; OSError if it cannot be read, or is larger than 1 MiB."""
    with path.open("rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise OSError(errno.EFBIG, "it is larger than 1 MiB")
    return content


def toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says; OSError if it cannot be read, ValueError if it is not TOML."""
    text = small(path).decode()
    import tomllib  # takes longer to import than most files take to read

    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def opened(path: Path, *, regular: bool) -> BinaryIO:
    """Open a file; OSError for a pipe or a device that is to be a `regular` one: it may never begin, or never end."""
    mode = os.stat(path).st_mode
    if regular and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device")
    return path.open("rb")
