# SPDX-License-Identifier: GPL-2.0-only
"""Files of a tree or a package that is only judged: its author must not choose which other files we use."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from common.errors import KernelError


def inside(base: Path, path: Path) -> Path:
    """Return the file itself, links followed; KernelError if it is not there or not below `base`."""
    try:
        found = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise KernelError(
            f"{path} cannot be followed to a file", hint="a link that leads nowhere: build or unpack the kernel again"
        ) from error
    if not found.is_relative_to(base.resolve()):
        raise KernelError(
            f"{path} leads out of {base}, to {found}",
            hint="a kernel's files must lie in its own directory: replace the link by what it means",
        )
    return found


def below(name: str, where: Path) -> str:
    """Return a relative path as it is; KernelError, naming the file it stands in, if it could lead anywhere else."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise KernelError(f"{where} names {name!r}, which is not a path below it", hint="build the modules again")
    return name
