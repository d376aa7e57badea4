# SPDX-License-Identifier: GPL-2.0-only
"""The seam between cases and machines: what a Machine is, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

Bundle = Mapping[str, str]
"""Guest code: dotted module name to Python source. Names ending in `.__init__` are packages."""


class MachineKind(StrEnum):
    """How the guest agent runs under a kernel, best first."""

    CLONE = "clone"
    COLD = "cold"
    VNG = "vng"
    HOST = "host"


class CallStatus(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    """The function returned; `value` holds the result."""
    RAISED = "raised"
    """The function raised; `error` holds the guest's traceback."""
    OVERRAN = "overran"
    """The deadline passed; the worker was killed, or the machine did not answer at all."""
    PANICKED = "panicked"
    """The kernel died; `console` holds its last words."""
    LOST = "lost"
    """The machine or its agent vanished without a panic."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record of `/dev/kmsg`."""

    sequence: int
    level: int
    microseconds: int
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request, with the kernel log that belongs to it."""

    status: CallStatus
    value: Any = None
    error: str = ""
    log: tuple[LogLine, ...] = ()
    before: tuple[LogLine, ...] = ()
    """Kernel log after the previous answer and before this request."""
    log_complete: bool = True
    """False when records were overwritten or could not be read: nothing may pass on such a log."""
    taint: int = 0
    """`/proc/sys/kernel/tainted` bits that were set during the request."""
    console: str = ""
    """The tail of the serial console; only if the machine died or was silent."""
    trace: str = ""
    """The function-graph trace that was asked for, or why there is none."""
    dump: str = ""
    """Why there is no memory dump although one was asked for and the machine got into trouble."""
    host_fault: str = ""
    """What the host did to the machine; if not empty, the reply says nothing about the kernel."""
    cut: str = ""
    """What was left out of a kernel log that was too long; then `log_complete` is False."""
    seconds: float = 0.0
    """From sending the request to its answer, on the host's clock."""


SOCKMAP_PATHS = ("sk_psock_*", "tcp_bpf_*", "udp_bpf_*", "unix_*bpf*", "vsock*bpf*", "sock_map_*", "sock_hash_*")
"""The kernel's functions that handle redirected data."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Extra evidence that a request collects; each kind costs seconds, so only a repeated case is asked."""

    trace: tuple[str, ...] = ()
    """Globs of kernel functions to trace, see `SOCKMAP_PATHS`."""
    dump: Path | None = None
    """Where to write the guest's memory (ELF, as large as it) if the machine gets into trouble."""


NO_EVIDENCE = Evidence()


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """The user's options about machines."""

    kind: MachineKind = MachineKind.CLONE
    accelerator: str = "auto"
    """`auto`, `kvm` or `tcg`."""
    cpus: int = 1
    memory: int = 512
    """MiB."""
    append: str = ""
    """Added to the kernel command line; part of the template's key."""
    preload: tuple[str, ...] = ()
    """Modules to load at boot where the kernel has them as modules."""


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """Facts about a machine, for the first lines of output and for provenance."""

    kind: MachineKind
    accelerator: str
    """`kvm`, `tcg`, or `none` for the host."""
    why: str
    """One sentence: why this accelerator, and why this kind if not the one asked for."""
    factor: float
    """How many times slower than the reference this machine is; each deadline is multiplied by it."""
    boot_seconds: float
    """How long the template (or this machine) took to boot to its agent."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Tools: `{"qemu": "7.2.22", "virtme-ng": "1.42"}`."""
    template: str = ""
    """The folder of the template it was cloned from."""
    generation: tuple[int, ...] = ()
    """Distinguishes that template from one that replaced it."""
    built: bool = False
    """Whether the kernel was booted just now to make that template."""


class Machine(Protocol):
    """Something that runs the guest agent under a kernel."""

    @property
    def info(self) -> MachineInfo:
        """What it is."""

    @property
    def usable(self) -> bool:
        """Whether another request may be sent; False after a panic, an overrun or a loss."""

    def load(self, bundle: Bundle) -> None:
        """Make these modules importable in the guest; only modules that it lacks are sent."""

    def call(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        deadline: float,
        evidence: Evidence = NO_EVIDENCE,
        hold: bool = False,
    ) -> Reply:
        """Call `package.module:function` with one JSON object; `deadline` is in seconds before scaling.

        `hold` keeps the sockets and maps of the call open in the guest, for a shell.
        """

    def drain(self) -> list[LogLine]:
        """Return the kernel log since the last call; no later call will get it."""

    def place(self, path: str, content: bytes) -> None:
        """Put a program into the guest."""

    def shell(self, command: list[str], environment: Mapping[str, str], size: list[int], keys: int, screen: int) -> int:
        """Run a command in the guest on the terminal `keys` and `screen`; return its status."""

    def debug(self, path: Path) -> None:
        """Stop the guest's kernel for a debugger that connects to a socket at `path`; HostError without a guest."""

    def dump(self, path: Path) -> None:
        """Write the guest's memory to `path` now, as an ELF core; HostError if there is no guest."""

    def close(self) -> None:
        """End the machine at once and remove all its files. May be called twice."""
