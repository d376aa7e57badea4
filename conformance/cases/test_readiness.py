# SPDX-License-Identifier: GPL-2.0-only
"""Readiness: a socket in a map is readable when a read returns data, and says how much."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_readiness(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
