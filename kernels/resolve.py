# SPDX-License-Identifier: GPL-2.0-only
"""The entry point of the package: resolve a kernel spec to a Kernel. Each kind of source has its module."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from common.errors import KernelError
from kernels import build, debian, host, image, origin, package, tree
from kernels.kernel import Kernel
from kernels.spec import Spec, SpecSource, amend, parse

__all__ = ["Spec", "amend", "find_commit", "parse", "resolve"]

Progress = Callable[[str], None]


def resolve(spec: str, *, refresh: bool = False, progress: Progress | None = None) -> Kernel:
    """Return the kernel a spec means, fetched, built and prepared if it is not in the cache.

    `refresh` asks the archive again; `progress` receives a line for each slow step. Errors: UsageError for a
    spec that means nothing, HostError for an archive, disk or tool that fails, KernelError for any other file.
    """
    parsed = parse(spec)
    tell = progress or (lambda _: None)
    match parsed.source:
        case SpecSource.DEBIAN:
            return debian.resolve(parsed, refresh, tell)
        case SpecSource.SOURCE | SpecSource.TREE:
            return build.resolve(parsed, refresh, tell)
        case SpecSource.INSTALLED:
            return package.resolve_installed(parsed)
        case SpecSource.HOST:
            return host.resolve(parsed)
        case SpecSource.FILE:
            return image.resolve(parsed)
        case SpecSource.DIRECTORY:
            return _directory(parsed)


def find_commit(spec: str) -> None:
    """Raise UsageError for a spec without a meaning, or a commit that is missing or not Linux's; builds nothing."""
    parsed = parse(spec)
    if parsed.source is SpecSource.TREE and shutil.which("git"):
        origin.check_linux(parsed, origin.commit_of(parsed))


def _directory(spec: Spec) -> Kernel:
    root = Path(spec.wanted)
    kernel = tree.resolve(spec, root) if tree.is_tree(root) else package.resolve_unpacked(spec)
    if kernel is None:
        raise KernelError(
            f"{root} holds no kernel",
            hint="give a built kernel tree, an unpacked package (boot/vmlinuz-*, lib/modules/*), or the image itself",
        )
    return kernel
