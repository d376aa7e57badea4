# SPDX-License-Identifier: GPL-2.0-only
"""Read and write the kernel's files, and mount its file systems."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_CHUNK = 1 << 14
_MNT_DETACH = 2

LIBC = ctypes.CDLL(None, use_errno=True)
"""The C library; `check` what its functions return."""


def read(path: str) -> str:
    """Return a file's text, nothing if it cannot be read; a file object would cost more than the reading."""
    chunks = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while chunk := os.read(descriptor, _CHUNK):
                chunks.append(chunk)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return b"".join(chunks).decode("ascii", "replace")


def write(path: str, text: str) -> None:
    """Write to a file that is there, which need not be readable; OSError if the kernel does not take it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


@contextmanager
def setting(path: str, value: str) -> Iterator[None]:
    """Set a value, where this kernel has it, and set it back in the end."""
    before = read(path).strip()
    if before not in ("", value):
        write(path, value)
    try:
        yield
    finally:
        if before not in ("", value):
            write(path, before)


def check(result: int) -> int:
    """Return what a function of the C library returned; OSError with the kernel's errno if that is negative."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def mounted(kind: str) -> str:
    """Return where a file system of a kind is mounted, nothing if it is not."""
    mounts = (line.split() for line in read("/proc/self/mounts").splitlines())
    return next((path for _, path, type_, *_ in mounts if type_ == kind), "")


def mount(kind: str) -> str:
    """Mount a file system on a new directory, and return its path."""
    path = tempfile.mkdtemp(prefix=f"{kind}-")
    try:
        check(LIBC.mount(kind.encode(), path.encode(), kind.encode(), 0, None))
    except OSError:
        os.rmdir(path)
        raise
    return path


@contextmanager
def file_system(kind: str) -> Iterator[str]:
    """Mount a file system of its own and yield its path; what is in it goes with it."""
    path = mount(kind)
    try:
        yield path
    finally:
        LIBC.umount2(path.encode(), _MNT_DETACH)
        os.rmdir(path)
