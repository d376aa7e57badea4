# SPDX-License-Identifier: GPL-2.0-only
"""A kernel given as a file: modules and configuration are searched where builds and packages put them."""

from __future__ import annotations

from pathlib import Path

from common.errors import UsageError
from kernels import artifact, package, tree
from kernels.kernel import Kernel
from kernels.spec import Spec


def resolve(spec: Spec) -> Kernel:
    """Return the kernel in a bzImage, vmlinuz or vmlinux."""
    path = Path(spec.wanted)
    if not path.is_file():
        # A pipe or a device is the user's mistake, not that of a commit under bisection.
        raise UsageError(f"{path} is not a regular file", hint="give a bzImage, a vmlinuz or an uncompressed vmlinux")
    found = artifact.image(path)
    path = path.resolve()
    for root in path.parents:
        if tree.is_tree(root) and path in (root / tree.BZIMAGE, root / "vmlinux"):
            modules_root = tree.modules_in(root, found.release)
            break
        modules_root = package.modules_of(root, found.release)
        if modules_root is not None:
            break
    beside = [path.with_name(name) for name in (f"config-{found.release}", "config", ".config")]
    config = next(
        (file for file in [*beside, root / ".config"] if file.is_file()), package.config_of(root, found.release)
    )
    return artifact.kernel(spec, found, modules_root=modules_root, config=config, provenance={"path": str(path)})
