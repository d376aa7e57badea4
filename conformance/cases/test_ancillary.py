# SPDX-License-Identifier: GPL-2.0-only
"""Ancillary: addresses, boundaries, control messages, descriptors, urgent data and zero-copy of sockets in maps."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_ancillary(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
