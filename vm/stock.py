# SPDX-License-Identifier: GPL-2.0-only
"""A stock virtme-ng guest on the host's own root, running the same agent behind one more virtio port."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

from common import cache
from common.errors import KernelError
from kernels.kernel import Kernel
from vm.boot import await_agent
from vm.compose import ask_virtme
from vm.compose import pairs
from vm.host import CHECKOUT
from vm.machine import MachineInfo
from vm.machine import MachineOptions
from vm.qemu import Qemu
from vm.rootfs import PYTHON
from vm.session import Session

NEEDED = ("NET_9P", "NET_9P_VIRTIO", "9P_FS")


def possible(kernel: Kernel) -> bool:
    """Whether the kernel can have the host's files as its root."""
    return not _missing(kernel)


def open_stock(kernel: Kernel, options: MachineOptions, info: MachineInfo, qemu: Path) -> Session:
    """Boot what `vng` would boot, with the agent as its script; KernelError if the kernel cannot."""
    if missing := _missing(kernel):
        raise KernelError(
            f"{kernel.spec} cannot be a stock virtme-ng guest: it lacks {' '.join(missing)}",
            hint="use --machine=clone or cold, which need no 9p",
        )
    begin = time.monotonic()
    folder = _composed(kernel, options, info, qemu)
    command = json.loads((folder / "command.json").read_text())
    session = Session(Qemu(list(_own_ports(command, os.fspath(folder / "initramfs")))), info)
    await_agent(session, kernel, begin)
    return session


def _missing(kernel: Kernel) -> list[str]:
    return [symbol for symbol in NEEDED if kernel.config and kernel.config.get(symbol) not in ("y", "m")]


def _composed(kernel: Kernel, options: MachineOptions, info: MachineInfo, qemu: Path) -> Path:
    """Have virtme-ng compose the guest and its initramfs; it has no other way to hand that one over than a file."""
    # Not through /lib/modules: virtme-ng cannot link it where the host, on whose root the guest runs, has none.
    modprobe = shlex.join(["modprobe", "-d", os.fspath(kernel.modules or "/"), "-qa", *options.preload])
    preload = f"{modprobe}; " if options.preload else ""
    script = f"{preload}cd {shlex.quote(os.fspath(CHECKOUT))} && exec {PYTHON} -m vm.guest.local"
    # fmt: off
    wishes = [
        "--mods", "auto",
        "--cpus", str(options.cpus),
        "--memory", f"{options.memory}M",
        "--script-sh", script,
        "--force-initramfs",
        *(["--disable-kvm"] if info.accelerator == "tcg" else []),
        *(word for option in options.append.split() for word in ("--kopt", option)),
    ]
    # fmt: on
    image = kernel.compressed or kernel.image or Path()
    identity = (kernel.digest, image, qemu, wishes, dict(info.versions))
    target = cache.root() / "stock" / hashlib.sha256(repr(identity).encode()).hexdigest()[:32]

    def build(folder: Path) -> None:
        folder.mkdir()
        command = ask_virtme(qemu, image, *wishes, "--save-initramfs", os.fspath(folder / "initramfs"))
        (folder / "command.json").write_text(json.dumps(command))

    return cache.publish(target, build)


def _own_ports(command: Sequence[str], initramfs: str) -> Iterator[str]:
    """Point virtme-ng's console and script ports at nothing: the console is ours, the script has a port of its own."""
    yield command[0]
    for option, value in pairs(command[1:]):
        if option == "-serial" or (option == "-chardev" and "id=console" in (value or "")):
            continue
        yield option
        if option == "-initrd":
            yield initramfs
        elif option == "-chardev" and value is not None:
            nothing = re.sub(r"path=[^,]*", "path=/dev/null", value)
            yield re.sub(r"^stdio,(id=\w+).*", r"null,\1", nothing)
        elif value is not None:
            yield value
