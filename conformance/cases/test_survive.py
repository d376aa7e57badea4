# SPDX-License-Identifier: GPL-2.0-only
"""Survive: system calls that killed other kernels do not kill this one."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_survive(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
