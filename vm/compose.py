# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU command: virtme-ng composes the machine, the suite adds its own init, console and control port."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import HostError, KernelError
from kernels.kernel import Kernel
from vm import jail
from vm.machine import MachineOptions
from vm.rootfs import INIT

TERMINAL = frozenset({"-chardev", "-serial", "-mon", "-echr"})
"""Options of a guest that talks to a terminal."""

EXPORTS = frozenset({"-fsdev", "-virtfs"})
"""Options that export host files to a guest; a guest that mounted them cannot be saved."""

OUTSIDE = re.compile(
    r"-(?:netdev|drive|blockdev|hd[a-d]|cdrom|sd|mtdblock|pflash|fsdev|virtfs|usbdevice|bt|redir|fd[ab])"
    r"|-(?:net|nic) (?!none$).*"
    r"|-device .*(?:net|vsock|9p|vhost|virtio-fs|blk|scsi|nvme|ide-|floppy|ivshmem|usb-|vfio|tpm).*"
    r"|-object (?:memory-backend-file|secret|input-).*"
)
"""Options, with their values, of a guest that sees more than its own memory: files, disks, networks, devices."""

REPLACED = frozenset({"-append", "-initrd", "-kernel", "-cpu", "-accel", "-m", "-smp", "-name"})

# Only options that affect neither network nor memory: the guest keeps its kernel's defaults (mitigations,
# init_on_alloc, KASLR), for the boot is paid once per kernel.
CMDLINE = (
    "console=ttyS0 quiet loglevel=1 panic=-1 oops=panic printk.devkmsg=on log_buf_len=4M"
    " random.trust_cpu=on cryptomgr.notests raid=noautodetect"
    " 8250.nr_uarts=1 i8042.noaux i8042.nokbd i8042.nopnp initcall_blacklist=jent_mod_init"
    " rcupdate.rcu_expedited=1"
    " unknown_nmi_panic"  # makes a silent kernel print where it is: see Qemu.diagnose
)

SMP_CMDLINE = "panic_print=0x40"
"""A panic prints the stacks of all CPUs; 8d470a45d1a6 ("panic: add option to dump all CPUs backtraces"), 5.18."""

TCG_CMDLINE = "no_timer_check tsc=reliable"
"""Under KVM the guest has kvm-clock, which survives a snapshot."""


@dataclass(frozen=True, slots=True)
class Composition:
    """A machine without its files: the part that is the same before and after a snapshot."""

    qemu: str
    arguments: tuple[str, ...]
    kernel: str
    append: str
    memory: int
    """MiB."""

    def machine(self, ram: int | None, *, shared: bool = False) -> list[str]:
        """Return the command of the bare machine; the open file `ram` is its memory, shared or as a private mapping.

        Files are passed open, because QEMU has no access to their folders, and no path needs escaping.
        """
        backend = "memory-backend-ram"
        if ram is not None:
            backend = f"memory-backend-file,mem-path=/proc/self/fd/{ram},share={'on' if shared else 'off'}"
        # fmt: off
        return [
            self.qemu, *self.arguments,
            "-m", f"{self.memory}M",
            "-object", f"{backend},id=ram,size={self.memory}M",
        ]
        # fmt: on

    def payload(self, image: int, initrd: int) -> list[str]:
        """Return the options that boot the kernel in the open file `image` with the open file `initrd`.

        A restored guest needs none of them: what they load is in its memory already, and loading takes time.
        """
        # fmt: off
        return [
            "-kernel", f"/proc/self/fd/{image}",
            "-append", self.append,
            "-initrd", f"/proc/self/fd/{initrd}",
        ]
        # fmt: on


def ask_virtme(qemu: Path, image: Path, *options: str) -> list[str]:
    """Return the QEMU command virtme-ng composes for a kernel image; HostError if virtme-ng does not run."""
    # fmt: off
    command = [
        # Without -P and -E it would import a virtme/ from the current directory or PYTHONPATH.
        sys.executable, "-P", "-E", "-m", "virtme.commands.run",
        "--kimg", os.fspath(image),
        "--qemu-bin", os.fspath(qemu),
        "--force-9p",
        "--show-command", "--dry-run",
        *options,
    ]
    # fmt: on
    answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    for line in answer.stdout.splitlines():
        if "qemu-system" in line:
            return shlex.split(line)
    if "No module named" in answer.stderr:
        raise HostError("virtme-ng is not installed", hint="pip install virtme-ng")
    last = (answer.stderr.strip().splitlines() or ["it says nothing"])[-1]
    raise KernelError(f"virtme-ng cannot boot {image}: {last}", hint="is it a kernel image?")


def exposures(arguments: Sequence[str]) -> list[str]:
    """Return the options of a QEMU command that expose something of the host."""
    texts = (f"{option} {value}" if value is not None else option for option, value in pairs(arguments))
    return [text for text in texts if OUTSIDE.match(text)]


def guest_tools() -> Path:
    """Return virtme-ng's directory of guest tools."""
    import virtme

    return Path(virtme.__file__ or "").parent / "guest"


def compose(virtme: Sequence[str], kernel: Kernel, options: MachineOptions, accelerator: str) -> Composition:
    """Turn virtme-ng's command into the suite's machine; HostError if its guest would see anything of the host."""
    machine = list(_machine(virtme[1:]))
    if seen := exposures(machine):
        raise HostError(
            f"virtme-ng gives its guest {', '.join(seen)}, which was not asked for",
            hint="is it the version that requirements.txt names?",
        )
    kvm = accelerator == "kvm"
    tcg = "tcg,thread=single" if options.cpus == 1 else "tcg"
    smp = SMP_CMDLINE if options.cpus > 1 else ""
    return Composition(
        qemu=virtme[0],
        arguments=(
            *machine,
            *("-accel", "kvm" if kvm else tcg),
            *("-cpu", "host" if kvm else "qemu64"),
            *("-smp", str(options.cpus)),
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            *jail.sandbox(virtme[0]),
        ),
        kernel=os.fspath(kernel.image or ""),
        append=" ".join(filter(None, [CMDLINE, smp, "" if kvm else TCG_CMDLINE, options.append, INIT])),
        memory=options.memory,
    )


def _machine(arguments: Sequence[str]) -> Iterator[str]:
    """Keep the options that describe the machine; drop terminal, exports and replaced ones."""
    for option, value in pairs(arguments):
        if option in TERMINAL | EXPORTS | REPLACED:
            continue
        if option == "-device" and re.search(r"chardev=|fsdev=|^i6300esb", value or ""):
            continue
        yield option
        if value is not None:
            yield f"{value},memory-backend=ram" if option == "-machine" else value


def pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Split a QEMU command into options and their values."""
    position = 0
    while position < len(arguments):
        option = arguments[position]
        value = arguments[position + 1] if position + 1 < len(arguments) else None
        if value is None or value.startswith("-"):
            yield option, None
            position += 1
        else:
            yield option, value
            position += 2
