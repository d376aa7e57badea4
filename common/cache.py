# SPDX-License-Identifier: GPL-2.0-only
"""The cache on disk: entries named by their ingredients, written to a temporary and renamed, one lock per key.

Whatever has its final name is complete, so a run killed at any byte leaves nothing that could be mistaken for a
result. A temporary lives in `partial/` under the name of the lock its writer holds: if that lock is free, the writer
is dead and the temporary can be removed.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import HostError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENODEV,
    errno.EOPNOTSUPP,
}


def root() -> Path:
    """Return the cache directory (`$XDG_CACHE_HOME` or `~/.cache`), which need not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The base directory specification: a relative path is invalid and to be ignored.
    base = Path(home if os.path.isabs(home) else os.path.expanduser("~/.cache"))
    if not base.is_absolute():
        raise HostError("there is no home directory for the cache", hint="set HOME or XDG_CACHE_HOME")
    if not str(base).isprintable() or '"' in str(base):
        raise HostError(
            f"the cache cannot be in {str(base)!r}: apt and make take no such name",
            hint="set XDG_CACHE_HOME to a directory without quotes and control characters",
        )
    return base / "sockmap-conformance"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a refused write below `path` into a HostError that says how to fix it."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in _FULL:
            raise HostError(
                f"no space left while writing {where}",
                hint=f"free some space below {root()}, run `./conform kernels prune`, or set XDG_CACHE_HOME",
            ) from error
        if error.errno in _REFUSED:
            raise HostError(
                f"cannot write {where}: {os.strerror(error.errno or 0).lower()}",
                hint=f"make {root()} a directory you may write, or set XDG_CACHE_HOME to one",
            ) from error
        raise


@contextmanager
def lock(key: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of `key`; yields False at once if it is taken and `wait` is False. A killed holder frees it."""
    path = root() / "locks" / _flat(key)
    with explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # /proc and its like: nothing can be made there
            raise PermissionError(errno.EPERM, "", str(path.parent)) from error
        # Never unlinked: a process that waits on an unlinked file would hold a lock that others cannot see.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def publish(target: Path, build: Callable[[Path], None], *, replace: bool = False) -> Path:
    """Return `target`, made by `build(temporary)` unless it is there; of two callers at a time one builds.

    `build` creates a file or a directory at the path it is given. `replace` builds even if `target` exists; only for
    files, which a rename replaces at once.
    """
    if not replace and target.exists():
        touch(target)
        return target
    key = str(target.relative_to(root()))
    with lock(key), explained(target):
        if replace or not target.exists():
            temporary = root() / "partial" / _flat(key)
            remove(temporary)
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                build(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(target)
            finally:
                remove(temporary)
    return target


def touch(target: Path) -> None:
    """Record that an entry was used now, as its modification time."""
    with suppress(OSError):  # a cache on a read-only disk still serves
        os.utime(target)


def write(target: Path, data: bytes) -> None:
    """Replace the file `target` atomically by one with `data`."""

    def build(temporary: Path) -> None:
        temporary.write_bytes(data)

    publish(target, build, replace=True)


def discard(target: Path) -> None:
    """Remove an entry so that no process ever sees half of it."""
    key = str(target.relative_to(root()))
    with lock(key), explained(target):
        discarded = root() / "partial" / _flat(key)
        remove(discarded)
        discarded.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            target.rename(discarded)
        remove(discarded)


def sweep() -> list[str]:
    """Remove temporaries of killed writers; returns the names. A temporary whose lock is held is alive and stays."""
    swept = []
    for temporary in sorted((root() / "partial").glob("*")):
        with lock(temporary.name, wait=False) as free:
            if free:
                remove(temporary)
                swept.append(temporary.name)
    return swept


def remove(path: Path) -> None:
    """Remove a file or a directory tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def size(path: Path) -> int:
    """Return the bytes a file or a directory tree takes on disk, links not followed."""
    if not path.is_dir():
        return path.lstat().st_blocks * 512
    return sum(
        os.lstat(os.path.join(folder, name)).st_blocks * 512 for folder, _, names in os.walk(path) for name in names
    )


def _flat(key: str) -> str:
    return key.replace(os.sep, "@")


def age(made: float) -> float:
    """Return how many seconds ago something was made, by the wall clock.

    A time in the future counts as infinitely old: the clock was set back, so the age is unknown.
    """
    seconds = time.time() - made
    return seconds if seconds >= 0 else math.inf
