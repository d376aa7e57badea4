# SPDX-License-Identifier: GPL-2.0-only
"""Resolve files inside an untrusted tree or package: a link in it must not lead to other files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from common.errors import KernelError


def inside(base: Path, path: Path) -> Path:
    """Resolve the links of a file; KernelError if it is missing or outside of `base`."""
    try:
        found = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise KernelError(
            f"{path} cannot be followed to a file", hint="a link that leads nowhere: build or unpack the kernel again"
        ) from error
    if not found.is_relative_to(base.resolve()):
        raise KernelError(
            f"{path} leads out of {base}, to {found}",
            hint="a kernel's files must lie in its own directory: replace the link by the file that it points to",
        )
    return found


def below(name: str, where: Path) -> str:
    """Return a relative path unchanged; KernelError, naming the file that has it, if it could lead outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise KernelError(f"{where} names {name!r}, which is not a path below it", hint="build the modules again")
    return name
