# SPDX-License-Identifier: GPL-2.0-only
"""PID 1 of the guest: mount, load modules, raise the loopback, keep the agent, reap what others leave."""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from pathlib import Path

from vm.guest import agent
from vm.guest import setup

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

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, target: str, data: str) -> None:
    """Mount a pseudo file system where the kernel has it; a case that needs a missing one will say so."""
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


def main() -> None:
    """Become the guest's init; return never."""
    try:
        for kind, target, data in MOUNTS:
            mount(kind, target, data)
        load_modules()
        setup.raise_loopback()
        setup.raise_limits()
        child = os.fork()
        if not child:
            agent.main()
            os._exit(0)
        while os.wait()[0] != child:
            pass
        print("init: the agent ended", file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()
    os.sync()
    libc.reboot(RB_POWER_OFF)
