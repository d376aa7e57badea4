# SPDX-License-Identifier: GPL-2.0-only
"""Read files that a user or another program wrote; they may be pipes, devices or huge."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

_MOST = 1 << 20
"""Bytes of a hand-written file at most."""


def small(path: Path) -> bytes:
    """Return the content of a hand-written file; OSError if it cannot be read, or is larger than 1 MiB."""
    with path.open("rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise OSError(errno.EFBIG, "it is larger than 1 MiB")
    return content


def toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; OSError if it cannot be read, ValueError if it is not TOML."""
    text = small(path).decode()
    import tomllib  # its import takes longer than reading most files

    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def opened(path: Path, *, regular: bool) -> BinaryIO:
    """Open a file; OSError for a pipe or a device if it must be `regular`: reading might never begin or end."""
    mode = os.stat(path).st_mode
    if regular and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device")
    return path.open("rb")
