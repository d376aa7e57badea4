# SPDX-License-Identifier: GPL-2.0-only
"""A kernel under test as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernels.version import Version


@dataclass(frozen=True, slots=True)
class Kernel:
    """A spec resolved: everything anyone needs to boot and to judge it."""

    spec: str
    """What the user typed."""
    slug: str
    """The spec as part of a test id: `[a-z0-9_.-]` only, e.g. `debian-6.12`."""
    release: str
    """What `uname -r` will print."""
    version: Version
    """The upstream version with its stable sublevel, e.g. 6.1.176 for Debian's `6.1.0-50-amd64`."""
    banner: str
    """The kernel's own version line, as in `/proc/version`."""
    image: Path | None
    """What to boot: an extracted vmlinux with a PVH note where possible, else the bzImage; None for the host."""
    compressed: Path | None
    """The bzImage, where there is one: what stock virtme-ng boots."""
    modules: Path | None
    """A root so that `modules/lib/modules/RELEASE/modules.dep` exists; None if the kernel has no modules."""
    config: Mapping[str, str]
    """CONFIG symbols without the prefix: `{"BPF_SYSCALL": "y"}`; an absent symbol is not set; empty if unknown."""
    provenance: Mapping[str, str]
    """Where it came from: package, version, suite, path, config hash, ..."""
    digest: str
    """Hex digest of the content that decides how it behaves: image, modules, configuration."""

    @property
    def is_host(self) -> bool:
        """Whether this is the running kernel, to be judged without a VM."""
        return self.image is None
