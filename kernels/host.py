# SPDX-License-Identifier: GPL-2.0-only
"""The running kernel."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from kernels import artifact, package
from kernels.kernel import Kernel
from kernels.spec import Spec


def resolve(spec: Spec) -> Kernel:
    """Return the kernel this process runs on."""
    release = os.uname().release
    banner = Path("/proc/version").read_text().strip()
    running = Path("/proc/config.gz")
    has_modules = (package.MACHINE / "lib" / "modules" / release / "modules.dep").is_file()
    return artifact.kernel(
        spec,
        artifact.Image(None, None, banner, "", hashlib.sha256(banner.encode()).hexdigest()),
        modules_root=package.MACHINE if has_modules else None,
        config=running if running.is_file() else package.config_of(package.MACHINE, release),
        provenance={"path": "/"},
    )
