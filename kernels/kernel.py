# SPDX-License-Identifier: GPL-2.0-only
"""A kernel under test as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernels.version import Version


@dataclass(frozen=True, slots=True)
class Kernel:
    """A resolved spec: everything needed to boot and to judge a kernel."""

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
    """The file to boot: an extracted vmlinux with a PVH note if possible, else the bzImage; None for the host."""
    compressed: Path | None
    """The bzImage, if there is one: stock virtme-ng boots it."""
    modules: Path | None
    """A folder with lib/modules/RELEASE/modules.dep; None if the kernel has no modules."""
    config: Mapping[str, str]
    """CONFIG symbols without the prefix: `{"BPF_SYSCALL": "y"}`; an absent symbol is not set; empty if unknown."""
    provenance: Mapping[str, str]
    """Where it came from: package, version, suite, path, config hash, ..."""
    digest: str
    """Hex digest of image, modules and configuration."""

    @property
    def is_host(self) -> bool:
        """Whether this is the running kernel, which is judged without a VM."""
        return self.image is None
