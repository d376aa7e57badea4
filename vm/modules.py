# SPDX-License-Identifier: GPL-2.0-only
"""The kernel modules a guest needs to boot to its agent, resolved by virtme-ng, as an initramfs beside the root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import kernels.modules
from common.errors import KernelError
from kernels.kernel import Kernel
from vm.cpio import CpioWriter
from vm.rootfs import Writer

CONTROL_PORT = ("virtio_pci", "virtio_console")
"""What the control port hangs on; everything else is the cases' business (MachineOptions.preload)."""


def closure(kernel: Kernel, names: tuple[str, ...]) -> list[Path]:
    """Return the module files for `names` in load order; what is built in or unknown contributes nothing.

    KernelError if one of them is no file of the kernel's own.
    """
    if kernel.modules is None:
        return []
    from virtme import modfinder

    folder = kernels.modules.folder(kernel.modules, kernel.release)
    with modfinder.get_mod_path(str(folder), kernel.release) as root:
        found = modfinder.find_modules_from_install(names, root=root, kver=kernel.release)
        # Below `root` there is a link to `folder`, and an error had better name what is there when it is read.
        paths = [folder / path.partition(f"/modules/{kernel.release}/")[2] for path in found]
        # One that is in the index only is missing like one that is not: cases that need it are skipped, and name it.
        return [kernels.modules.checked(kernel.modules, path) for path in paths if os.path.lexists(path)]


def write_modules(stream: BinaryIO, files: list[Path]) -> None:
    """Write the modules, decompressed, and `modules/order`."""
    writer = CpioWriter(stream)
    fill_modules(writer, files)
    writer.close()


def fill_modules(writer: Writer, files: list[Path]) -> None:
    """Write the modules and `modules/order` where vm.guest.init looks for them."""
    names = []
    for path in files:
        name = kernels.modules.MODULE.sub(".ko", path.name)
        writer.file(f"modules/{name}", plain(path))
        names.append(name)
    writer.file("modules/order", "\n".join(names).encode())


def plain(path: Path) -> bytes:
    """Return a module, decompressed; KernelError if that fails."""
    try:
        return kernels.modules.plain(path.read_bytes(), path.name)
    except OSError as error:
        raise KernelError(f"the module {path.name} cannot be read: {error}", hint="fetch the kernel again") from error
