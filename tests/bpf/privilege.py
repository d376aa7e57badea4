# SPDX-License-Identifier: GPL-2.0-only
"""Whether this process may use bpf(2), for tests on the running kernel."""

from __future__ import annotations

import os

import pytest

from bpf.guest import assemble, syscall
from bpf.guest.contexts import CONTEXTS


def missing() -> str:
    """Say what is missing, or nothing."""
    try:
        os.close(syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 1))
    except OSError as error:
        return f"needs root and a kernel with SOCKMAP: {error.strerror}"
    return ""


needs_bpf = pytest.mark.skipif(bool(missing()), reason=missing())


def untraceable() -> str:
    """Say why this host accepts no tracing program, or nothing; only EPERM counts, other errors fail a test."""
    if missing():
        return missing()
    try:
        os.close(assemble.load_program(CONTEXTS["iter_sockmap"], assemble.put(assemble.R0, 0) + assemble.EXIT))
    except PermissionError:
        return "this host forbids tracing programs, as a kernel under lockdown or in a sandbox may"
    except OSError:
        return ""
    return ""


needs_tracing = pytest.mark.skipif(bool(untraceable()), reason=untraceable())
