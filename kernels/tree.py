# SPDX-License-Identifier: GPL-2.0-only
"""Kernel build trees: the image, the modules where the build left them, the .config."""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import KernelError
from kernels import artifact, modules
from kernels.inside import below, inside
from kernels.kernel import Kernel
from kernels.spec import Spec

BZIMAGE = Path("arch/x86/boot/bzImage")


def is_tree(root: Path) -> bool:
    """Tell whether a directory is a kernel's source tree or its `O=` build directory, built or not."""
    return (root / "Makefile").is_file() and ((root / "Kconfig").is_file() or (root / "source").exists())


def resolve(spec: Spec, root: Path) -> Kernel:
    """Return the kernel built in a tree; KernelError if it is not built."""
    image = next((path for path in (root / BZIMAGE, root / "vmlinux") if path.is_file()), None)
    if image is None:
        # A build directory (`O=`) has no repository, and a repository need not be at its top.
        here = f", or give tree:{root}, which builds it elsewhere" if (root / ".git").exists() else ""
        raise KernelError(f"the tree {root} is not built", hint=f"make -C {root} -j$(nproc) bzImage modules{here}")
    found = artifact.image(inside(root, image))
    config = root / ".config"
    return artifact.kernel(
        spec,
        found,
        modules_root=modules_in(root, found.release),
        config=config if config.is_file() else None,
        provenance={"path": str(image)},
    )


def modules_in(root: Path, release: str) -> Path | None:
    """Return a folder with the modules of modules.order and their index; None if no modules were built.

    KernelError if a module does not lie in the tree.
    """
    order = root / "modules.order"
    if not order.is_file():
        return None
    lines = inside(root, order).read_text(errors="replace").splitlines()
    # `kernel/net/tls/tls.ko` up to 6.1, `net/tls/tls.o` since 6.2: f65a486821cf ("kbuild: change module.order to list
    # *.o instead of *.ko").
    names = [line.removeprefix("kernel/").rpartition(".")[0] + ".ko" for line in lines if line.strip()]
    listed = [below(name, order) for name in names]
    # Not Path.is_file(), which raises for a name that no file can have.
    return modules.gather(release, {path: root / path for path in listed if os.path.isfile(root / path)}, root, root)
