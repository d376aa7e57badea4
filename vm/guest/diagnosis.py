# SPDX-License-Identifier: GPL-2.0-only
"""What the guest can report about a case that died or hung."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SYSRQ = "/proc/sysrq-trigger"
RUNNING_AND_BLOCKED = "lw"
"""Documentation/admin-guide/sysrq.rst: the stacks of all CPUs, before one is busy printing, and of blocked tasks."""
LOOK_SECONDS = 1.0
"""Seconds to look for the stack of a thread: a running thread has none until it is preempted."""


def log_backtraces() -> str:
    """Have the kernel log the stacks of running and blocked tasks; return why it could not, or nothing."""
    try:
        for key in RUNNING_AND_BLOCKED:
            with open(SYSRQ, "w") as trigger:
                trigger.write(key)
    except OSError as error:
        return f"no backtraces: {error}"
    return ""


def stacks(pid: int, proc: str = "/proc") -> str:
    """Return the kernel stack of each thread of a process, except threads that kept running."""
    seen: dict[str, str] = {}
    end = time.monotonic() + LOOK_SECONDS
    while True:
        unseen = False
        for task in Path(f"{proc}/{pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                stack = seen.get(task.name) or (task / "stack").read_text()
                seen[task.name] = stack
                unseen = unseen or not stack
        if not unseen or time.monotonic() > end:
            return "\n".join(f"thread {name}: {stack.rstrip()}" for name, stack in seen.items() if stack)
        time.sleep(0.01)


def vmcoreinfo() -> list[int]:
    """Return physical address and size of the note that debuggers need in a memory dump; empty if there is none."""
    try:
        with open("/sys/kernel/vmcoreinfo") as file:
            return [int(field, 16) for field in file.read().split()]
    except (OSError, ValueError):
        return []


def killer(pid: int, log: Iterable[list[Any]]) -> str:
    """Return the kernel's message if the OOM killer killed `pid`, else nothing."""
    return next((text for *_, text in log if f"Killed process {pid} " in text), "")
