# SPDX-License-Identifier: GPL-2.0-only
"""A kernel without files, for tests that boot nothing."""

from __future__ import annotations

from pathlib import Path

from kernels.kernel import Kernel
from kernels.version import Version


def kernel(**config: str) -> Kernel:
    """Return a kernel without files."""
    return Kernel(
        spec="debian:6.12",
        slug="debian-6.12",
        release="6.12.1-amd64",
        version=Version.parse("6.12.1"),
        banner="Linux version 6.12.1",
        image=Path("/k/vmlinux"),
        compressed=Path("/k/vmlinuz"),
        modules=None,
        config=config,
        provenance={},
        digest="0" * 64,
    )
