# SPDX-License-Identifier: GPL-2.0-only
"""Restrict QEMU: a guest that breaks out of its machine has QEMU's rights.

QEMU's own seccomp filter keeps it from starting programs and gaining privileges. Started by root, it runs as a
user that owns nothing but the memory of its guest. Everything it needs reaches it as an open file, so it has no use for
paths either, and a cache below /root may stay closed to it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from common import cache as disk

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""See `-sandbox` in qemu(1)."""

USER = 65432
"""A user id without name or process on Debian and most others; it owns no file but the memory of guests."""

KVM = Path("/dev/kvm")
_CAPABILITIES = (0, 6, 7)
"""CAP_CHOWN, CAP_SETGID, CAP_SETUID."""


@cache
def sandbox(qemu: str) -> tuple[str, ...]:
    """Return the sandbox option; nothing if QEMU was built without seccomp."""
    known = subprocess.run([qemu, "-sandbox", SANDBOX, "-version"], capture_output=True, check=False)
    return ("-sandbox", SANDBOX) if not known.returncode else ()


@cache
def user() -> int:
    """Return the user for a QEMU started by root; 0 if we are not root, or cannot change the user."""
    if os.geteuid():
        return 0
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    capabilities = int(effective.split()[1], 16)
    has_all = all(capabilities >> each & 1 for each in _CAPABILITIES)
    return USER if has_all and _maps("uid_map") and _maps("gid_map") else 0


def options(runner: int) -> list[str]:
    """Return setpriv(1)'s options to become a user irrevocably; none for 0."""
    if not runner:
        return []
    group = KVM.stat().st_gid if KVM.exists() else 0
    # fmt: off
    return [
        "--reuid", str(runner),
        "--regid", str(runner),
        *(["--groups", str(group)] if group else ["--clear-groups"]),
        "--no-new-privs",
    ]
    # fmt: on


@contextlib.contextmanager
def memory(path: Path, *, create: bool = False) -> Iterator[int]:
    """Open a guest's memory for QEMU; it must belong to QEMU's user."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    with disk.explained(path):
        descriptor = os.open(path, flags, 0o600)
    try:
        if user() and not os.fstat(descriptor).st_uid:
            os.fchown(descriptor, user(), user())
        yield descriptor
    finally:
        os.close(descriptor)


def runner(command: Sequence[str], descriptor: int | None = None) -> int:
    """Return the user to run QEMU as; its guest's memory is open as `descriptor`.

    It is the owner of the memory file, because root may use another user's cache. It is root if only root may use KVM
    or QEMU.
    """
    if ("kvm" in command and not _may_use_kvm()) or not _may_start(Path(command[0])):
        return 0
    if not user() or descriptor is None:
        return user()
    return os.fstat(descriptor).st_uid


def _may_start(program: Path) -> bool:
    return program.stat().st_mode & 0o005 == 0o005 and all(each.stat().st_mode & 0o001 for each in program.parents)


def _may_use_kvm() -> bool:
    status = KVM.stat()
    return status.st_mode & 0o006 == 0o006 or (status.st_gid != 0 and status.st_mode & 0o060 == 0o060)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[int]:
    """Open a file for QEMU, which reopens it as another user: if that user may not read it, copy it to memory."""
    with path.open("rb") as file:
        if not user() or os.fstat(file.fileno()).st_mode & stat.S_IROTH:
            yield file.fileno()
            return
        with os.fdopen(os.memfd_create(path.name), "wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            yield copy.fileno()


def _maps(name: str) -> bool:
    """Whether the user namespace maps QEMU's user."""
    lines = (line.split() for line in Path("/proc/self", name).read_text().splitlines())
    return any(int(first) <= USER < int(first) + int(count) for first, _, count in lines)
