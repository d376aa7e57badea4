# SPDX-License-Identifier: GPL-2.0-only
"""Stream: what is sent through sockets in a map arrives whole, in order and once, and an end is an end."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_stream(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
