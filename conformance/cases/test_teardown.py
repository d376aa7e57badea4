# SPDX-License-Identifier: GPL-2.0-only
"""Teardown: a socket leaves a map in every way, with data in every state, and then works on."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_teardown(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
