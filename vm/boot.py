# SPDX-License-Identifier: GPL-2.0-only
"""Boot a kernel: root image, modules, composed machine, agent."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common import cache
from common.errors import ConformError, HostError, KernelError
from kernels.kernel import Kernel
from vm import jail, modules, rootfs
from vm.compose import Composition
from vm.death import DeadMachineError
from vm.machine import CallStatus, MachineInfo, MachineOptions
from vm.qemu import Qemu
from vm.session import Session

PATIENCE = {"kvm": 30.0, "tcg": 150.0}
"""Seconds for a boot, thirty times the usual, multiplied by the slowness that the probe of KVM measured."""


@dataclass(frozen=True, slots=True)
class Booted:
    """A booted machine, with the QEMU process that the template saves."""

    session: Session
    qemu: Qemu
    composition: Composition


def root_image() -> Path:
    """Return the root image shared by all kernels, built if its ingredients have changed."""
    target = cache.root() / "images" / f"root-{rootfs.key()}.cpio"

    def build(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            rootfs.write_root(stream)

    return cache.publish(target, build)


@contextlib.contextmanager
def initramfs(kernel: Kernel, options: MachineOptions) -> Iterator[int]:
    """Yield a descriptor of the root image followed by the kernel's modules; it exists in memory only."""
    descriptor = os.memfd_create("initramfs")
    with os.fdopen(descriptor, "wb") as stream:
        with root_image().open("rb") as root:
            shutil.copyfileobj(root, stream, 1 << 20)
        modules.write_modules(stream, modules.closure(kernel, modules.CONTROL_PORT + options.preload))
        stream.flush()
        yield descriptor


def boot(
    composition: Composition, kernel: Kernel, options: MachineOptions, info: MachineInfo, ram: Path | None = None
) -> Booted:
    """Boot to the agent, with the guest's memory in the file `ram`; KernelError says what the kernel died of."""
    begin = time.monotonic()
    with contextlib.ExitStack() as files:
        initrd = files.enter_context(initramfs(kernel, options))
        image = files.enter_context(jail.readable(Path(composition.kernel)))
        memory = files.enter_context(jail.memory(ram, create=True)) if ram is not None else None
        command = [*composition.machine(memory, shared=True), *composition.payload(image, initrd)]
        passed = [descriptor for descriptor in (initrd, image, memory) if descriptor is not None]
        qemu = Qemu(command, passed=passed, runner=jail.runner(command, memory))
    session = Session(qemu, info)
    await_agent(session, kernel, begin)
    return Booted(session, qemu, composition)


def await_agent(session: Session, kernel: Kernel, begin: float) -> None:
    """Wait until a booting machine answers and measure it; if it does not, end it and raise KernelError.

    HostError if something on the host killed it.
    """
    try:
        patience = PATIENCE[session.info.accelerator] * session.info.factor
        release = session.greet(patience)
        session.calibrate(time.monotonic() - begin)
        session.greet(patience, clock=True)
        session.drain()  # log lines before the first call belong to no call
    except DeadMachineError as death:
        raise _explained(kernel, death) from death
    except BaseException:
        session.close()
        raise
    if release != kernel.release:
        session.close()
        raise KernelError(
            f"{kernel.spec} should be {kernel.release}, but the guest runs {release}",
            hint="the image and its modules are of different builds",
        )


def _explained(kernel: Kernel, death: DeadMachineError) -> ConformError:
    if death.host_fault:
        return host_fault(kernel, death)
    manner = {
        CallStatus.PANICKED: "panicked while booting",
        CallStatus.OVERRAN: "did not boot to the agent in time",
    }.get(death.status, "ended while booting")
    cause = death.sentence if death.status is CallStatus.LOST else death.last_line
    return KernelError(f"{kernel.spec} {manner}: {cause}", hint=_hint(death))


def host_fault(kernel: Kernel, death: DeadMachineError) -> HostError:
    """Return the error for a machine that died of the host, not of its kernel."""
    return HostError(
        f"{death.host_fault} while {kernel.spec} was made ready",
        hint=f"look for a full disk below {cache.root()}, memory that ran out (dmesg), limits (ulimit -a), or too much"
        " --cpus or --memory",
    )


def _hint(death: DeadMachineError) -> str:
    if "init" in death.last_line or "VFS" in death.last_line:
        return "check that it has BLK_DEV_INITRD, BINFMT_ELF, DEVTMPFS, VIRTIO_PCI and VIRTIO_CONSOLE"
    return "boot it by hand with `vng -v` to see more"
