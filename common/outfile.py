# SPDX-License-Identifier: GPL-2.0-only
"""Write files in folders where other users may write, too: a planted link does not redirect a write."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path

_OPEN = re.compile(r"/dev/(?:stdout|stderr|fd/\d+)|/proc/(?:self|\d+)/fd/\d+")
"""Names of open files, which only the kernel makes."""


def replace(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it, so that no reader sees half of it; OSError if it cannot be stored.

    A link of that name is replaced, not followed. A device, such as /dev/stdout, is opened and written.
    """
    if _is_device(path):
        path.write_bytes(content)
        return
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, and may lead anywhere")
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        create(beside, content)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def create(path: Path, content: bytes) -> None:
    """Write a file that must not be there yet, not even as a link; OSError, and no half of it, if it is not stored."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def folder(above: Path, below: Path) -> Path:
    """Make the folder `below` in `above` and return it; OSError if a part of the path is a link."""
    path = above
    for part in below.parts:
        path /= part
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        if path.is_symlink() or not path.is_dir():
            raise OSError(errno.ENOTDIR, f"{path} is not a folder of the results")
    return path


def _is_device(path: Path) -> bool:
    """Return whether a path is a device, a pipe, or an open file of this process, such as /dev/stdout.

    Other paths below /dev do not count: every user may plant a link in /dev/shm.
    """
    if _OPEN.fullmatch(os.path.abspath(path)):
        return True
    return path.exists() and not path.is_file() and not path.is_symlink() and not path.is_dir()
