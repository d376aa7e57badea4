# SPDX-License-Identifier: GPL-2.0-only
"""Why a machine does not answer any more."""

from __future__ import annotations

from vm.machine import CallStatus, Reply

FAREWELL = "init: the agent "
"""The prefix of init's last message before it powers off: vm.guest.init."""

SILENCE = "NMI: Not continuing"
"""The title of a panic that we cause ourselves: Qemu.diagnose."""

PANIC = "Kernel panic - not syncing"


class DeadMachineError(Exception):
    """The machine did not answer a request, and it will not answer any other."""

    def __init__(self, status: CallStatus, console: str, failure: str, dump: str = "", host_fault: str = "") -> None:
        super().__init__(f"the machine {status}")
        self.status = status
        self.console = console
        self.failure = failure
        self.dump = dump
        """Why there is no memory dump although one was asked for."""
        self.host_fault = host_fault
        """What happened to the machine on the host; not the kernel's fault."""

    @property
    def last_line(self) -> str:
        """The title of the panic, else the last line on the console."""
        lines = [line for line in self.console.splitlines() if line.strip()]
        titles = [line for line in lines if PANIC in line]
        read_late_log = [line for line in lines if line.startswith(FAREWELL)]
        return (titles or read_late_log or lines[-1:] or [self.failure])[0]

    @property
    def sentence(self) -> str:
        """The death of the machine in one sentence."""
        if self.status is CallStatus.PANICKED:
            return self.last_line
        if self.status is CallStatus.OVERRAN:
            places = [line for line in self.console.partition(SILENCE)[2].splitlines() if "RIP: " in line]
            return f"{self.failure}; it was at {places[0].partition('RIP: ')[2]}" if places else self.failure
        return self.failure if self.last_line == self.failure else f"{self.failure}; last: {self.last_line}"

    def reply(self) -> Reply:
        """Return the reply to the request that was pending."""
        return Reply(
            status=self.status,
            error=self.sentence,
            log_complete=False,
            console=self.console,
            dump=self.dump,
            host_fault=self.host_fault,
        )
