# SPDX-License-Identifier: GPL-2.0-only
"""pidfd_open(2), pidfd_getfd(2), kcmp(2), which neither every libc nor every Python knows."""

from __future__ import annotations

import ctypes
import os
import platform

from conformance.guestlib import procfs
from conformance.guestlib.answers import opens, outcome

THREAD = os.O_EXCL
"""PIDFD_THREAD."""

_OPEN, _GETFD = 434, 438
_KCMP = {"x86_64": 312, "s390x": 343, "ppc64le": 354}.get(platform.machine(), 272)
_KCMP_FILE = 0


def call(number: int, *arguments: int) -> int:
    """Make a system call with numbers for arguments; OSError with the kernel's errno."""
    return procfs.check(procfs.LIBC.syscall(*map(ctypes.c_long, (number, *arguments))))


def open_pidfd(pid: int, flags: int = 0) -> int:
    """Return a descriptor for a process."""
    return call(_OPEN, pid, flags)


def steal(pidfd: int, number: int, flags: int = 0) -> int:
    """Return a duplicate of a descriptor of another process."""
    return call(_GETFD, pidfd, number, flags)


def steal_from(pid: int, number: int, flags: int = 0, *, open_flags: int = 0) -> int:
    """Do the same by the id of the process, or with `THREAD` of a thread."""
    handle = open_pidfd(pid, open_flags)
    try:
        return steal(handle, number, flags)
    finally:
        os.close(handle)


def try_to_steal(pid: int, number: int, flags: int = 0) -> str:
    """Steal and give up at once; `"ok"` or the errno."""
    return opens(steal_from, pid, number, flags)


def same_file(pid: int, number: int, descriptor: int) -> str:
    """Say whether another process's descriptor and ours are one open file: `"same"`, `"different"` or errno."""
    order = outcome(call, _KCMP, os.getpid(), pid, _KCMP_FILE, descriptor, number)
    return order if isinstance(order, str) else "different" if order else "same"
