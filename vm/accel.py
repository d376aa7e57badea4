# SPDX-License-Identifier: GPL-2.0-only
"""Choose the accelerator: KVM only where it has been seen to boot a kernel."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from common import cache
from common.errors import HostError
from kernels.kernel import Kernel
from vm import jail
from vm.death import PANIC
from vm.qemu import mortal

DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    """An accelerator and the sentence that defends it."""

    name: str
    why: str


def choose(wanted: str, kernel: Kernel, qemu: Path) -> Choice:
    """Return `kvm` or `tcg` with the reason; HostError if KVM is demanded and does not work."""
    if wanted == "tcg":
        return Choice("tcg", "TCG was asked for")
    why_not = _refusal() or _probed(kernel, qemu)
    if not why_not:
        return Choice("kvm", "a probe boot under KVM succeeded")
    if wanted == "kvm":
        raise HostError(f"KVM was asked for, but {why_not}", hint="use --accelerator=auto, or mend KVM")
    return Choice("tcg", f"TCG, because {why_not}")


def cpu_model() -> str:
    """Name the host's CPU and its features: what a KVM guest's snapshot depends on."""
    wanted = ("model name", "flags", "microcode")
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(wanted))


def _refusal() -> str:
    if not DEVICE.exists():
        return f"this host has no {DEVICE}"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} may not be opened by this user (join the group kvm)"
    return ""


def _probed(kernel: Kernel, qemu: Path) -> str:
    """Return why KVM does not work, or nothing; remembered until the host is booted anew."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    identity = (boot, os.fspath(qemu), qemu.stat().st_mtime_ns, cpu_model())
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:24]
    target = cache.root() / "kvm" / f"{name}.json"

    def build(temporary: Path) -> None:
        temporary.write_text(json.dumps({"boot": boot, "why_not": _probe(kernel, qemu)}))

    return str(json.loads(cache.publish(target, build).read_text())["why_not"])


def _probe(kernel: Kernel, qemu: Path) -> str:
    """Boot the kernel without a root: under a working KVM it panics for want of one within a second."""
    # fmt: off
    command = [
        os.fspath(qemu),
        "-machine", "q35",
        "-accel", "kvm",
        "-cpu", "host",
        "-m", "256M",
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none",
        "-serial", "stdio",
        "-append", "console=ttyS0 quiet panic=-1",
        *jail.sandbox(os.fspath(qemu)),
    ]
    # fmt: on
    try:
        with jail.readable(kernel.image or Path()) as image:
            done = subprocess.run(
                mortal([*command, "-kernel", f"/proc/self/fd/{image}"], jail.runner(command)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROBE_SECONDS,
                check=False,
                pass_fds=[image],
            )
    except subprocess.TimeoutExpired:
        return f"a probe boot under KVM did not finish within {PROBE_SECONDS:g} s"
    if PANIC in done.stdout:
        return ""
    last = next(iter((done.stderr.strip() or "the guest stopped without a word").splitlines()))
    return f"a probe boot under KVM failed: {last}"
