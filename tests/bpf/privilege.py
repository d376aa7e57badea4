# SPDX-License-Identifier: GPL-2.0-only
"""Whether this process may use bpf(2), for tests on the running kernel."""

from __future__ import annotations

import os

import pytest

from bpf.guest import syscall


def missing() -> str:
    """Say what is missing, or nothing."""
    try:
        os.close(syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 1))
    except OSError as error:
        return f"needs root and a kernel with SOCKMAP: {error.strerror}"
    return ""


needs_bpf = pytest.mark.skipif(bool(missing()), reason=missing())
