# SPDX-License-Identifier: GPL-2.0-only
"""The running kernel as a machine: the agent as a local process in its own namespaces."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common.errors import HostError
from kernels.kernel import Kernel
from vm.death import DeadMachineError
from vm.machine import MachineInfo, MachineKind
from vm.monitor import QmpError
from vm.patience import Waits, major_faults, starvation
from vm.qemu import content, with_parent_death_signal
from vm.session import Session

CHECKOUT = Path(__file__).resolve().parent.parent
PATIENCE = 10.0
INFO = MachineInfo(MachineKind.HOST, "none", "the running kernel, no VM", factor=1.0, boot_seconds=0.0)


AGENT = f"import sys; sys.path.insert(0, {os.fspath(CHECKOUT)!r}); from vm.guest import local; local.main(sys.argv[1:])"
"""Imports only the standard library and the agent, as in a guest; the environment adds nothing."""

# fmt: off
COMMAND = (
    "unshare", "--net", "--mount", "--ipc",
    sys.executable, "-IS", "-c", AGENT,
)
# fmt: on


class NoGuest:
    """The parts of a body that need a guest, for a process without one."""

    def host_fault(self) -> str:
        """Return nothing: the agent's exit status says it."""
        return ""

    def diagnose(self) -> None:
        """Leave the host's own kernel alone."""

    def keep(self) -> int:
        """Keep nothing: there is no guest."""
        return -1

    def ended(self) -> bool:
        """Say no: there is no guest."""
        return False

    def dump(self, path: Path) -> None:
        """Refuse: there is no guest."""
        raise QmpError("the running kernel is not a guest")

    def debug(self, path: Path) -> None:
        """Refuse: there is no guest."""
        raise QmpError("the running kernel is not a guest")


class LocalAgent(NoGuest):
    """An agent in a process on this host."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start it; its last argument is the descriptor of its end of the channel."""
        self._output = os.memfd_create("output")
        self.control, agent_end = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                with_parent_death_signal([*command, str(agent_end.fileno())]),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[agent_end.fileno()],
                cwd=CHECKOUT,
                start_new_session=True,
            )
        finally:
            agent_end.close()
        self.exited = os.pidfd_open(self._process.pid)

    def console(self) -> str:
        """Return what the agent printed."""
        return content(self._output)

    def printed(self) -> int:
        """Return how many bytes that is."""
        return os.fstat(self._output).st_size

    def failure(self) -> str:
        """Return the agent's last line."""
        return (self.console().strip().splitlines() or ["no message"])[-1]

    def starved(self) -> Waits:
        """Return the seconds for which the agent and its slowest worker have waited for a processor."""
        pid = self._process.pid
        with contextlib.suppress(OSError):
            workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            waits = [starvation(pid), max((starvation(int(each)) for each in workers), default=(0.0, 0.0))]
            return max(least for least, _ in waits), sum(most for _, most in waits)
        return 0.0, 0.0

    def faults(self) -> int:
        """Return how often the agent has waited for memory that was taken from it."""
        return major_faults(self._process.pid)

    def close(self) -> None:
        """End it."""
        if self.exited < 0:
            return
        self.control.close()  # a healthy agent ends on this, and kills its worker
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for descriptor in (self.exited, self._output):
            os.close(descriptor)
        self.exited = -1


def check_host() -> MachineInfo:
    """Return what this host is as a machine; HostError without root."""
    if os.geteuid() != 0:
        raise HostError("judging the running kernel needs root", hint="run it with sudo, or choose a kernel for a VM")
    return INFO


def open_host(kernel: Kernel) -> Session:
    """Return this host as a machine; HostError without root, or where namespaces are forbidden."""
    check_host()
    begin = time.monotonic()
    session = Session(LocalAgent(), INFO)
    try:
        session.greet(PATIENCE)
        session.calibrate(time.monotonic() - begin)
        session.drain()
    except DeadMachineError as death:
        raise HostError(
            f"the agent does not start on this host: {death.failure}",
            hint="it needs its own network, mount and IPC namespaces",
        ) from death
    return session
