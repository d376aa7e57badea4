# SPDX-License-Identifier: GPL-2.0-only
"""One process's workbench: the kernels under test and the machine it holds at the moment."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace

from common.errors import ConformError
from conformance.bundle import guest_bundle
from conformance.bundle import warm_up
from conformance.klog import find_splat
from conformance.model import Case
from conformance.model import KernelFacts
from kernels.config import check_bootable
from kernels.kernel import Kernel
from vm.launch import open_machine
from vm.launch import prepare
from vm.machine import Fate
from vm.machine import Machine
from vm.machine import MachineInfo
from vm.machine import MachineKind
from vm.machine import MachineOptions
from vm.machine import Reply

PRELOAD = ("vsock_loopback", "tls", "gcm", "ctr", "ghash_generic", "kcm", "sctp", "tipc")
"""Modules the cases need in the guest from the start."""
_ATTEMPTS = 2
"""Machines that may fail to start in a row before a kernel is given up."""


class Workbench:
    """Answers cases with one machine at a time; a machine in trouble is replaced before the next case."""

    def __init__(self, kernels: Mapping[str, Kernel], options: MachineOptions) -> None:
        self.kernels = kernels
        self.options = options
        self._machine: Machine | None = None
        self._slug = ""
        self._failures: dict[str, int] = {}

    def prepare(self, slug: str, progress: Callable[[str], None]) -> MachineInfo:
        """Make the template of one kernel, or find it; raises KernelError where the kernel cannot run the agent."""
        check_bootable(self.kernels[slug])
        return prepare(self.kernels[slug], self._options(slug), guest_bundle(), warm_up, progress)

    def facts(self, slug: str) -> KernelFacts:
        """Return what the judge may know of a kernel."""
        kernel = self.kernels[slug]
        return KernelFacts(version=kernel.version, config=kernel.config)

    def ask(self, slug: str, case: Case) -> Reply:
        """Carry out a case; raises ConformError where no machine can be had."""
        machine = self._hold(slug)
        reply = machine.call(case.scenario, case.params, deadline=case.deadline)
        if not machine.usable or not _healthy(reply):
            self.close()
        return reply

    def close(self) -> None:
        """End the machine in use, if any."""
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.close()

    def _options(self, slug: str) -> MachineOptions:
        """The running kernel is judged where it runs, whatever machine was asked for."""
        return replace(self.options, kind=MachineKind.HOST) if self.kernels[slug].is_host else self.options

    def _hold(self, slug: str) -> Machine:
        if self._machine is not None and self._slug == slug:
            return self._machine
        self.close()
        if self._failures.get(slug, 0) >= _ATTEMPTS:
            raise ConformError(f"{slug}: given up after {_ATTEMPTS} machines in a row failed to start")
        try:
            machine = open_machine(self.kernels[slug], self._options(slug))
        except ConformError:
            self._failures[slug] = self._failures.get(slug, 0) + 1
            raise
        self._failures[slug] = 0
        machine.load(guest_bundle())
        self._machine, self._slug = machine, slug
        return machine


def _healthy(reply: Reply) -> bool:
    """Tell whether the next case may run on the same machine."""
    quiet = find_splat(line.text for line in reply.log) is None
    return reply.fate in (Fate.ANSWERED, Fate.RAISED) and reply.log_complete and not reply.taint and quiet
