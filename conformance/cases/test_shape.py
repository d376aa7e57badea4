# SPDX-License-Identifier: GPL-2.0-only
"""Shape: programs change what is sent or received, and every other byte arrives."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_shape(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
