# SPDX-License-Identifier: GPL-2.0-only
"""A stock virtme-ng guest, running the same agent behind one more virtio port.

virtme-ng would export the host's whole root file system to it, and whoever wrote the kernel would read that. So its
root is a directory made for it: the interpreter, the agent, busybox, and the modules it may load.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import kernels.modules
from common import cache
from common.errors import HostError, KernelError
from kernels.kernel import Kernel
from vm import compose, jail, modules, rootfs
from vm.boot import await_agent
from vm.folder import FolderWriter
from vm.machine import MachineInfo, MachineOptions
from vm.qemu import Qemu
from vm.rootfs import AGENT_ROOT, PYTHON
from vm.session import Session

NEEDED = ("NET_9P", "NET_9P_VIRTIO", "9P_FS")

EXPOSES = (
    "a stock virtme-ng guest sees, read-only, a directory with the interpreter, the agent, busybox and its modules, and"
    " virtme-ng's own guest tools"
)
"""The sentence about such a machine in every report."""

SCRIPT = f"""
import os, sys
sys.path.insert(0, "/{AGENT_ROOT}")
from vm.guest import init
from vm.guest import local
for kind, target, data in init.MOUNTS:
    if not os.path.ismount(target):
        init.mount(kind, target, data)
init.load_modules()
local.main([])
"""
START = "stock.py"
DIRECTORIES = ("etc", "home", "mnt", "opt", "sbin", "usr/sbin", "var/tmp", "var/log")
"""Directories that virtme-ng's init mounts over, or expects; without them it prints warnings."""

APPLETS = ("sh", "bash", "cat", "grep", "ip", "ln", "mkdir", "modprobe", "mount", "setsid", "stty", "su", "uname")


def open_stock(kernel: Kernel, options: MachineOptions, info: MachineInfo, qemu: Path) -> Session:
    """Boot the guest of `vng`, with the agent as its script; KernelError if the kernel cannot."""
    if missing := _missing(kernel):
        raise KernelError(
            f"{kernel.spec} cannot be a stock virtme-ng guest: it lacks {' '.join(missing)}",
            hint="use --machine=clone or cold, which need no 9p",
        )
    begin = time.monotonic()
    folder = _composed(kernel, options, info, qemu)
    command = json.loads((folder / "command.json").read_text())
    # As the user that owns the exported directory: QEMU reads it for the guest.
    own = [*_own_ports(command, os.fspath(folder / "initramfs")), *jail.sandbox(command[0])]
    session = Session(Qemu(own), info)
    await_agent(session, kernel, begin)
    return session


def _missing(kernel: Kernel) -> list[str]:
    return [symbol for symbol in NEEDED if kernel.config and kernel.config.get(symbol) not in ("y", "m")]


def _composed(kernel: Kernel, options: MachineOptions, info: MachineInfo, qemu: Path) -> Path:
    """Have virtme-ng compose the guest and its initramfs, which it only writes to a file."""
    # fmt: off
    wishes = [
        "--mods", "auto",
        "--cpus", str(options.cpus),
        "--memory", f"{options.memory}M",
        "--script-sh", f"exec {PYTHON} -SsP /{START}",
        "--force-initramfs",
        *(["--disable-kvm"] if info.accelerator == "tcg" else []),
        *(word for option in options.append.split() for word in ("--kopt", option)),
    ]
    # fmt: on
    busybox = _busybox()
    # The command names virtme-ng's guest tools, which are in the virtual environment of this checkout.
    tools = compose.guest_tools()
    identity = (kernel.digest, qemu, tools, wishes, options.preload, rootfs.key(), _state(busybox), dict(info.versions))
    digest = hashlib.sha256(repr((Path(__file__).read_text(), *identity)).encode()).hexdigest()[:32]
    root = cache.publish(
        cache.root() / "stock" / f"{digest}-root", lambda folder: _fill(folder, kernel, options, busybox)
    )

    def build(folder: Path) -> None:
        folder.mkdir()
        # fmt: off
        command = compose.ask_virtme(
            qemu, root / "boot" / f"vmlinuz-{kernel.release}", *wishes,
            "--root", os.fspath(root),
            "--busybox", os.fspath(root / "bin" / "busybox"),
            "--save-initramfs", os.fspath(folder / "initramfs"),
        )
        # fmt: on
        check_exports(command, root)
        (folder / "command.json").write_text(json.dumps(command))

    return cache.publish(cache.root() / "stock" / digest, build)


def check_exports(command: Sequence[str], root: Path) -> None:
    """Raise HostError if a composed guest would see more than `root` and virtme-ng's tools, or could write there."""
    allowed = {root.resolve(), compose.guest_tools().resolve()}
    for seen in compose.exposures(command[1:]):
        path = re.match(r"-fsdev local,(?:.*,)?path=((?:[^,]|,,)*),(?:.*,)?readonly=on(?:,|$)", seen)
        if path is not None and Path(path[1].replace(",,", ",")).resolve() in allowed:
            continue
        if not re.match(r"-device virtio-9p-pci,fsdev=", seen):
            raise HostError(
                f"virtme-ng gives its guest {seen}, which was not asked for",
                hint="use --machine=clone or cold; is virtme-ng the version that requirements.txt names?",
            )


def _fill(folder: Path, kernel: Kernel, options: MachineOptions, busybox: Path) -> None:
    """Make the guest's root."""
    folder.mkdir()
    writer = FolderWriter(folder)
    rootfs.fill_root(writer)
    for name in DIRECTORIES:
        writer.directory(name)
    writer.file("etc/fstab", b"")
    writer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    writer.file("etc/group", b"root:x:0:\n")
    writer.file(START, SCRIPT.encode())
    writer.file("bin/busybox", busybox.read_bytes(), executable=True)
    for name in APPLETS:
        writer.file(f"bin/{name}", f'#!/bin/busybox sh\nexec /bin/busybox {_applet(name)} "$@"\n'.encode())
        (folder / "bin" / name).chmod(0o755)
    image = kernel.compressed or kernel.image
    assert image is not None
    writer.file(f"boot/vmlinuz-{kernel.release}", image.read_bytes())
    modules.fill_modules(writer, modules.closure(kernel, modules.CONTROL_PORT + options.preload))
    _index(writer, folder, kernel)


def _index(writer: FolderWriter, folder: Path, kernel: Kernel) -> None:
    """Put the modules for virtme-ng's initramfs where it looks for them."""
    from virtme import virtmods

    target = f"lib/modules/{kernel.release}"
    writer.directory(target)
    for path in modules.closure(kernel, tuple(virtmods.MODALIASES)):
        name = kernels.modules.MODULE.sub(".ko", path.name)
        writer.file(f"{target}/kernel/{name}", modules.plain(path))
    kernels.modules.depmod(folder, kernel.release)


def _applet(name: str) -> str:
    return "sh" if name == "bash" else name


def _busybox() -> Path:
    for name in ("busybox-static", "busybox"):
        found = shutil.which(name)
        if found is not None and _is_static(Path(found)):
            return Path(found)
    raise HostError("there is no statically linked busybox, which starts a stock virtme-ng guest",
                    hint="apt install busybox-static")  # fmt: skip


def _is_static(path: Path) -> bool:
    listing = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    return "=>" not in listing.stdout


def _state(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return os.fspath(path), status.st_size, status.st_mtime_ns


def _own_ports(command: Sequence[str], initramfs: str) -> Iterator[str]:
    """Point virtme-ng's console and script ports at /dev/null: the console is ours, and the agent has its own port."""
    yield command[0]
    for option, value in compose.pairs(command[1:]):
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
