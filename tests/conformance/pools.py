# SPDX-License-Identifier: GPL-2.0-only
"""A pool without machines: it gives scripted answers, and records when a clone is closed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import ConformError
from conformance.model import Case, KernelFacts
from conformance.run.machine_pool import MachinePool
from kernels.version import Version
from tests.conformance.observations import case, flowed
from vm.machine import (
    NO_EVIDENCE,
    Bundle,
    CallStatus,
    Evidence,
    LogLine,
    Machine,
    MachineInfo,
    MachineKind,
    MachineOptions,
    Reply,
)

SLUG = "debian-6.12"
CASE = case("sockmap-ingress-to-local-udp4-unix_dgram")
GOOD = Reply(status=CallStatus.ANSWERED, value=flowed("out"), seconds=0.25)
STRAY = Reply(status=CallStatus.ANSWERED, value=flowed("out_peer"))
WARNING = LogLine(sequence=9, level=4, microseconds=1, text="WARNING: CPU: 0 PID: 1 at net/core/skmsg.c:7 x+0x1/0x2")
WARNED = Reply(status=CallStatus.ANSWERED, value=flowed("out"), log=(WARNING,))
PANICKED = Reply(
    status=CallStatus.PANICKED, console="Kernel panic - not syncing: sysrq triggered crash", log_complete=False
)


class ScriptedPool(MachinePool):
    """Gives scripted answers; an error among them is raised."""

    def __init__(self, *answers: Reply | ConformError) -> None:
        super().__init__({}, MachineOptions())
        self.answers = list(answers)
        self.history: list[str] = []
        """`ask` and `close`, in order."""
        self.late: Reply | None = None
        self.flaws: list[str] = []

    def facts(self, slug: str) -> KernelFacts:
        """Describe a kernel that keeps its promises."""
        return KernelFacts(Version(6, 12, 107), {})

    def ask(self, slug: str, case: Case, evidence: Evidence = NO_EVIDENCE) -> Reply:
        """Give the next answer."""
        self.history.append("ask")
        self.asked = case.id
        answer = self.answers.pop(0)
        if isinstance(answer, ConformError):
            raise answer
        return answer

    def lacking(self, slug: str, case: Case) -> Mapping[str, str]:
        """Lack nothing."""
        return {}

    def known_lacking(self, slug: str, case: Case) -> Mapping[str, str]:
        """Know of no lack."""
        return {}

    def decoded(self, slug: str, reply: Reply) -> Reply:
        """Decode nothing."""
        return reply

    def read_late_log(self) -> Reply | None:
        """Return an empty log."""
        answer, self.late = self.late, None
        return answer

    def flaw(self) -> str:
        """Name the next flaw."""
        return self.flaws.pop(0) if self.flaws else ""

    def close(self) -> None:
        """Record that the clone is closed."""
        self.history.append("close")


class OneMachine(ScriptedPool):
    """Has a machine with scripted answers."""

    ask = MachinePool.ask
    read_late_log = MachinePool.read_late_log
    close = MachinePool.close
    dump = MachinePool.dump

    def _started(self, slug: str) -> Machine:
        return Scripted(self.answers)


class Scripted:
    """A machine without a guest."""

    info = MachineInfo(MachineKind.CLONE, "tcg", "", factor=1.0, boot_seconds=0.0)

    def __init__(self, answers: list[Reply | ConformError]) -> None:
        self._answers = answers
        self.usable = True

    def load(self, bundle: Bundle) -> None:
        """Load nothing."""

    def call(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        deadline: float,
        evidence: Evidence = NO_EVIDENCE,
        hold: bool = False,
    ) -> Reply:
        """Give the next answer."""
        answer = self._answers.pop(0)
        assert isinstance(answer, Reply)
        return answer

    def drain(self) -> list[LogLine]:
        """Return an empty log."""
        return []

    def place(self, path: str, content: bytes) -> None:
        """Place nothing."""

    def shell(self, command: list[str], environment: Mapping[str, str], size: list[int], keys: int, screen: int) -> int:
        """Run no shell."""
        return 127

    def debug(self, path: Path) -> None:
        """Debug nothing."""

    def dump(self, path: Path) -> None:
        """Write a fake dump; HostError after the machine is closed."""
        assert self.usable
        path.write_text("core")

    def close(self) -> None:
        """End."""
        self.usable = False
