# SPDX-License-Identifier: GPL-2.0-only
"""PID 1 of the guest: mount, load modules, set up the loopback, run the agent, reap orphans."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from pathlib import Path

from vm.guest import agent, setup

MOUNTS = (
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("tmpfs", "/tmp", "mode=1777"),  # noqa: S108
    ("tmpfs", "/run", "mode=755"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("bpf", "/sys/fs/bpf", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
    ("debugfs", "/sys/kernel/debug", ""),
)
MODULES = "/modules"
SYS_FINIT_MODULE = 313
RB_POWER_OFF = 0x4321FEDC
EEXIST = 17
CONSOLE_LEVEL = "7"
"""All but debug messages (level 7 itself)."""

NEVER_KILLED = "-1000"

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, target: str, data: str) -> None:
    """Mount a pseudo file system if the kernel has it; a case that needs a missing one will report it."""
    if os.path.isdir(target):
        libc.mount(kind.encode(), target.encode(), kind.encode(), 0, data.encode())


def load_modules() -> None:
    """Load the modules of the image in the order the host gave them."""
    order = Path(MODULES, "order")
    for name in order.read_text().split() if order.exists() else []:
        descriptor = os.open(f"{MODULES}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        if libc.syscall(SYS_FINIT_MODULE, descriptor, b"", 0) and ctypes.get_errno() != EEXIST:
            print(f"init: {name}: {os.strerror(ctypes.get_errno())}", file=sys.stderr, flush=True)
        os.close(descriptor)


def log_to_console() -> None:
    """Print kernel messages to the console from now on, for a crash; during the boot it would only cost time."""
    with contextlib.suppress(OSError):
        Path("/proc/sys/kernel/printk").write_text(CONSOLE_LEVEL)


def raise_priority() -> None:
    """Give the agent priority for memory and processor; its children do not inherit that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(NEVER_KILLED)
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def describe(status: int) -> str:
    """Describe a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def main() -> None:
    """Run as the guest's init; never returns."""
    try:
        for kind, target, data in MOUNTS:
            mount(kind, target, data)
        load_modules()
        setup.raise_loopback()
        setup.raise_limits()
        log_to_console()
        child = os.fork()
        if not child:
            raise_priority()
            agent.main(alone=True)
            os._exit(0)
        while (ended := os.wait())[0] != child:
            pass
        print(f"init: the agent {describe(ended[1])}", file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()
    os.sync()
    libc.reboot(RB_POWER_OFF)
