# SPDX-License-Identifier: GPL-2.0-only
"""What the guest itself can tell of a case that came to a bad end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SYSRQ = "/proc/sysrq-trigger"
BLOCKED_AND_RUNNING = "wl"
"""Documentation/admin-guide/sysrq.rst: the stacks of blocked tasks, then those of all CPUs."""


def log_backtraces() -> str:
    """Have the kernel log who is blocked and what runs; return why it could not, or nothing."""
    try:
        for key in BLOCKED_AND_RUNNING:
            with open(SYSRQ, "w") as trigger:
                trigger.write(key)
    except OSError as error:
        return f"no backtraces: {error}"
    return ""


def vmcoreinfo() -> list[int]:
    """Return physical address and size of the note that debuggers need in a memory dump; empty where there is none."""
    try:
        with open("/sys/kernel/vmcoreinfo") as file:
            return [int(field, 16) for field in file.read().split()]
    except (OSError, ValueError):
        return []


def killer(pid: int, log: Iterable[list[Any]]) -> str:
    """Return the kernel's words if it killed `pid` for want of memory, else nothing."""
    return next((text for *_, text in log if f"Killed process {pid} " in text), "")
