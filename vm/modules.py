# SPDX-License-Identifier: GPL-2.0-only
"""The kernel modules that a guest needs to start its agent, resolved by virtme-ng, as a second initramfs."""

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
"""Modules of the control port; the cases name all others (MachineOptions.preload)."""


def closure(kernel: Kernel, names: tuple[str, ...]) -> list[Path]:
    """Return the module files for `names` in load order; built-in and unknown modules are left out.

    KernelError if a file lies outside the kernel's folder.
    """
    if kernel.modules is None:
        return []
    from virtme import modfinder

    folder = kernels.modules.folder(kernel.modules, kernel.release)
    with modfinder.get_mod_path(str(folder), kernel.release) as root:
        found = modfinder.find_modules_from_install(names, root=root, kver=kernel.release)
        # `root` has a link to `folder`; name the real path in errors.
        paths = [folder / path.partition(f"/modules/{kernel.release}/")[2] for path in found]
        # A module in the index without a file counts as missing: cases that need it are skipped.
        return [kernels.modules.checked(kernel.modules, path) for path in paths if os.path.lexists(path)]


def write_modules(stream: BinaryIO, files: list[Path]) -> None:
    """Write the modules, decompressed, and `modules/order`."""
    writer = CpioWriter(stream)
    fill_modules(writer, files)
    writer.close()


def fill_modules(writer: Writer, files: list[Path]) -> None:
    """Write the modules and `modules/order` for vm.guest.init."""
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
