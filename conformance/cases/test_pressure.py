# SPDX-License-Identifier: GPL-2.0-only
"""Pressure: more data than is read, dead targets, many sockets and full maps."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_pressure(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
