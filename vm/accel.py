# SPDX-License-Identifier: GPL-2.0-only
"""Choose the accelerator: KVM only if it has booted a kernel."""

from __future__ import annotations

import hashlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from common import cache
from common.errors import HostError
from kernels.kernel import Kernel
from vm import jail
from vm.death import PANIC
from vm.qemu import with_parent_death_signal

DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 5.0
"""Seconds: five times what a working KVM takes on hardware."""
RACE_SECONDS = 120.0
CONSOLE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class AcceleratorChoice:
    """An accelerator and the reason for it."""

    name: str
    why: str
    slowness: float = 1.0
    """How many times slower than KVM on hardware the probe boot was; at least 1."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a probe boot under KVM."""

    why_not: str
    """Why KVM cannot be used; empty if it works."""
    seconds: float = 0.0
    """The duration of the boot if KVM works."""


def choose(wanted: str, kernel: Kernel, qemu: Path) -> AcceleratorChoice:
    """Return `kvm` or `tcg` with the reason; HostError if KVM is demanded and does not work."""
    if wanted == "tcg":
        return AcceleratorChoice("tcg", "TCG was asked for")
    refusal = _refusal()
    probe = Probe(refusal) if refusal else _probed(kernel, qemu)
    if not probe.why_not:
        return AcceleratorChoice("kvm", "a probe boot under KVM succeeded", slowness=max(1.0, probe.seconds))
    if wanted == "kvm":
        raise HostError(f"KVM was asked for, but {probe.why_not}", hint="use --accel auto, or fix KVM")
    return AcceleratorChoice("tcg", f"TCG, because {probe.why_not}")


def cpu_model() -> str:
    """Return the host's CPU model and features, on which a KVM guest's snapshot depends."""
    wanted = ("model name", "flags", "microcode")
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(wanted))


def _refusal() -> str:
    if not DEVICE.exists():
        return f"this host has no {DEVICE}"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} may not be opened by this user (join the group kvm)"
    return ""


def _probed(kernel: Kernel, qemu: Path) -> Probe:
    """Return the result of a probe boot; remembered until the next boot of the host."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    identity = (boot, os.fspath(qemu), qemu.stat().st_mtime_ns, cpu_model(), Path(__file__).read_text())
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:24]
    target = cache.root() / "kvm" / f"{name}.json"

    def build(temporary: Path) -> None:
        temporary.write_text(json.dumps({"boot": boot, **asdict(_probe(kernel, qemu))}))

    found = json.loads(cache.publish(target, build).read_text())
    return Probe(str(found["why_not"]), float(found["seconds"]))


def _probe(kernel: Kernel, qemu: Path) -> Probe:
    """Boot the kernel without a root file system: under a working KVM it panics within a second.

    Nested virtualization can be much slower and still be faster than emulation. So a boot that takes longer than
    PROBE_SECONDS goes on, against the same boot under TCG, and the faster one wins.
    """
    with ExitStack() as stack:
        image = stack.enter_context(jail.readable(kernel.image or Path()))
        kvm = stack.enter_context(_Boot.started(qemu, image, "kvm", "host"))
        if not _ended([kvm], PROBE_SECONDS):
            tcg = stack.enter_context(_Boot.started(qemu, image, "tcg", "qemu64"))
            _ended([kvm, tcg], RACE_SECONDS)
            if kvm.process.poll() is None:
                outcome = "TCG was faster" if tcg.process.poll() is not None else "neither did TCG in two minutes"
                return Probe(f"a probe boot under KVM did not finish within {PROBE_SECONDS:g} s, and {outcome}")
        seconds = time.monotonic() - kvm.begin
        return Probe(kvm.why_not(), seconds)


@dataclass(frozen=True, slots=True)
class _Boot:
    """A QEMU that boots a kernel to its panic, with its console in a file."""

    process: subprocess.Popen[bytes]
    console: BinaryIO
    errors: BinaryIO
    begin: float

    @classmethod
    @contextmanager
    def started(cls, qemu: Path, image: int, accelerator: str, cpu: str) -> Iterator[_Boot]:
        # fmt: off
        command = [
            os.fspath(qemu),
            "-machine", "q35",
            "-accel", accelerator,
            "-cpu", cpu,
            "-m", "256M",
            "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none",
            "-serial", "stdio",
            "-append", "console=ttyS0 quiet panic=-1",
            *jail.sandbox(os.fspath(qemu)),
        ]
        # fmt: on
        with TemporaryFile() as console, TemporaryFile() as errors:
            process = subprocess.Popen(
                with_parent_death_signal([*command, "-kernel", f"/proc/self/fd/{image}"], jail.runner(command)),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=errors,
                pass_fds=[image],
            )
            try:
                yield cls(process, console, errors, time.monotonic())
            finally:
                process.kill()
                process.wait()

    def why_not(self) -> str:
        """Return why the boot failed; empty if it reached the panic."""
        console, errors = (_text(file) for file in (self.console, self.errors))
        if PANIC in console:
            return ""
        first = next(iter((errors.strip() or "the guest stopped without a message").splitlines()))
        return f"a probe boot under KVM failed: {first}"


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(CONSOLE_BYTES).decode(errors="replace")


def _ended(boots: Sequence[_Boot], seconds: float) -> bool:
    """Wait until one of the boots has ended; returns whether one did in time."""
    poll = select.poll()
    with ExitStack() as stack:
        for each in boots:
            descriptor = os.pidfd_open(each.process.pid)
            stack.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
