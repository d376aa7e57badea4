# SPDX-License-Identifier: GPL-2.0-only
"""Enrol: insert a socket by its own process, SCM_RIGHTS, pidfd_getfd(2), sock_ops or an iterator, then use it."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_enrol(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
