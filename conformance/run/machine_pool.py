# SPDX-License-Identifier: GPL-2.0-only
"""One process's pool: the kernels under test and its current machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import ConformError, HostError
from conformance.judge.conclude import reports_of
from conformance.judge.klog import alarming
from conformance.model import Case, KernelFacts
from conformance.run.ability import Abilities
from conformance.run.bundle import guest_bundle, warm_up
from conformance.run.deadline import PASSED
from conformance.run.sparing import Confirmations
from kernels import symbols
from kernels.config import check_bootable
from kernels.kernel import Kernel
from vm.boot import Booted
from vm.launch import flaw, open_machine, prepare, start_ahead
from vm.machine import NO_EVIDENCE, CallStatus, Evidence, Machine, MachineInfo, MachineKind, MachineOptions, Reply

PRELOAD = (
    "ipv6", "unix", "af_packet", "vsock_loopback", "tls", "gcm", "ctr", "ghash_generic", "kcm", "sctp", "smc", "tipc",
    "tcp_diag", "udp_diag", "unix_diag", "vsock_diag",
)  # fmt: skip
"""Modules the cases need in the guest from the start."""
_LEAST = 5.0
"""Seconds that even a fast machine gets for a case: scenarios wait up to 4 s for the kernel to come to rest."""

_ATTEMPTS = 2
"""Machines that may fail to start in a row before a kernel is given up."""

_planted: list[Callable[[Machine], None]] = []
"""Called with every machine that has its guest code, before its first case; see plant()."""


def plant(do: Callable[[Machine], None]) -> None:
    """Have this process `do` something to each of its machines before its first case; never for a verdict."""
    _planted.append(do)


def facts_of(kernel: Kernel) -> KernelFacts:
    """Return the facts about a kernel that the judge may use."""
    return KernelFacts(version=kernel.version, config=kernel.config)


class MachinePool:
    """Answers cases with one machine at a time; a machine in trouble is replaced before the next case."""

    def __init__(
        self, kernels: Mapping[str, Kernel], options: MachineOptions, expires: float = math.inf, *, eager: bool = False
    ) -> None:
        """Judge `kernels`; when `time.monotonic()` is `expires`, the run's total deadline has passed.

        With `eager` a kernel that is prepared will be asked soon, by the same thread: its machine starts at once.
        """
        self._eager = eager
        self.kernels = kernels
        self.options = options
        self.expires = expires
        self.previous = ""
        """The case that the machine answered before the one it was asked last; empty for its first."""
        self.asked = ""
        """The case that the machine was asked last; empty for none."""
        self.confirmations = Confirmations()
        """Differences that need not be confirmed again."""
        self._wanted: Path | None = None
        """The file for a memory dump of the last case, if it gets the machine into trouble."""
        self._machine: Machine | None = None
        self._ahead: dict[str, Booted] = {}
        """Clones started ahead, by kernel."""
        self._info: MachineInfo | None = None
        """Facts about the machine asked last, which may be gone."""
        self._slug = ""
        self._failures: dict[str, int] = {}
        self._abilities: dict[str, Abilities] = {}
        self._debug_images: dict[str, Path | None] = {}

    def prepare(self, slug: str, progress: Callable[[str], None]) -> MachineInfo:
        """Make or find the template of one kernel; raises KernelError if the kernel cannot run the agent."""
        check_bootable(self.kernels[slug])
        info = prepare(self.kernels[slug], self._options(slug), guest_bundle(), warm_up, progress)
        if self._eager and (started := start_ahead(self.kernels[slug], self._options(slug))) is not None:
            self._ahead[slug] = started
        return info

    def facts(self, slug: str) -> KernelFacts:
        """Return the facts about a kernel that the judge may use."""
        return facts_of(self.kernels[slug])

    def ask(self, slug: str, case: Case, evidence: Evidence = NO_EVIDENCE) -> Reply:
        """Carry out a case; raises ConformError if no machine starts, or the run's time is up."""
        if time.monotonic() >= self.expires:
            raise ConformError(PASSED, hint="give a longer one with --total-deadline")
        machine = self.machine(slug)
        self.previous, self.asked = self.asked, case.id
        factor = machine.info.factor
        deadline = max(case.deadline, _LEAST / factor)
        deadline = max(0.0, min(deadline, (self.expires - time.monotonic()) / factor))
        reply = machine.call(case.scenario, case.params, deadline=deadline, evidence=evidence)
        self._wanted = evidence.dump
        return self._checked(machine, reply)

    def lacking(self, slug: str, case: Case) -> Mapping[str, str]:
        """Return the symbols that the case needs and the guest lacks, with reasons; ConformError without a guest."""

        def ask(function: str, arguments: Mapping[str, Any]) -> Reply:
            machine = self.machine(slug)
            return self._checked(machine, machine.call(function, arguments, deadline=_LEAST / machine.info.factor))

        return self._abilities_of(slug).lacking(self.kernels[slug], case, ask)

    def known_lacking(self, slug: str, case: Case) -> Mapping[str, str]:
        """Return the same, from earlier answers of the guest only."""
        return self._abilities_of(slug).known(case)

    def _abilities_of(self, slug: str) -> Abilities:
        return self._abilities.setdefault(slug, Abilities())

    def read_late_log(self) -> Reply | None:
        """Read the kernel log since the last answer; None if no machine is in use."""
        if self._machine is None:
            return None
        reply = self._machine.call("builtins:len", {}, deadline=_LEAST / self._machine.info.factor)
        return self._checked(self._machine, reply)

    def flaw(self) -> str:
        """Say what is wrong with the template of the machine asked last; empty if it is unchanged."""
        return flaw(self._info) if self._info is not None else ""

    def dump(self, path: Path) -> bool:
        """Write the memory of the machine in use; False if there is none. HostError where that fails."""
        if self._machine is None:
            return False
        self._machine.dump(path)
        return True

    def _checked(self, machine: Machine, reply: Reply) -> Reply:
        """Close a machine that must not be asked again, after taking the memory dump that was asked for."""
        if machine.usable and healthy(reply):
            return reply
        if machine.usable and self._wanted is not None:
            try:
                machine.dump(self._wanted)
            except HostError as error:
                reply = replace(reply, dump=f"no memory dump: {error}")
        self.close()
        return reply

    def decoded(self, slug: str, reply: Reply) -> Reply:
        """Add file and line to a reply's log and console, if the kernel's debugging information is available."""
        kernel = self.kernels[slug]
        if slug not in self._debug_images:
            self._debug_images[slug] = None if kernel.is_host else symbols.debug_image(kernel)
        if (image := self._debug_images[slug]) is None:
            return reply
        lines = (*reply.before, *reply.log)
        *texts, console = symbols.decode_each([*(line.text for line in lines), reply.console], image, kernel.modules)
        decoded = tuple(replace(line, text=text) for line, text in zip(lines, texts, strict=True))
        count = len(reply.before)
        return replace(reply, before=decoded[:count], log=decoded[count:], console=console)

    def machine(self, slug: str) -> Machine:
        """Return a machine that runs this kernel: the one in use, or a new one; ConformError if none starts."""
        if self._machine is not None and self._slug == slug:
            return self._machine
        self._end()
        if self._failures.get(slug, 0) >= _ATTEMPTS:
            raise ConformError(f"{slug}: given up after {_ATTEMPTS} machines in a row failed to start")
        try:
            machine = self._started(slug)
        except HostError:
            # A fault that kills a new machine may kill only one; try another.
            machine = self._started(slug)
        self._machine, self._slug, self._info = machine, slug, machine.info
        return machine

    def _started(self, slug: str) -> Machine:
        """Start a machine and give it its code."""
        try:
            machine = open_machine(
                self.kernels[slug],
                self._options(slug),
                bundle=guest_bundle(),
                warmup=warm_up,
                started=self._ahead.pop(slug, None),
            )
        except ConformError:
            self._failures[slug] = self._failures.get(slug, 0) + 1
            raise
        try:
            machine.load(guest_bundle())
            for do in _planted:
                do(machine)
        except BaseException:
            machine.close()
            raise
        self._failures[slug] = 0
        return machine

    def close(self) -> None:
        """End the machine in use, if any, and any that was started ahead."""
        while self._ahead:
            self._ahead.popitem()[1].session.close()
        self._end()

    def _end(self) -> None:
        machine, self._machine = self._machine, None
        self.asked = ""
        if machine is not None:
            machine.close()

    def _options(self, slug: str) -> MachineOptions:
        """Return the machine options for a kernel; `host` is always judged on the host."""
        return replace(self.options, kind=MachineKind.HOST) if self.kernels[slug].is_host else self.options


def healthy(reply: Reply) -> bool:
    """Return whether the next case may run on the same machine."""
    quiet = not reports_of((*reply.before, *reply.log))
    return (
        reply.status in (CallStatus.ANSWERED, CallStatus.RAISED)
        and reply.log_complete
        and quiet
        and not alarming(reply.taint)
    )
