# SPDX-License-Identifier: GPL-2.0-only
"""Redirect: every IN kind to every OUT kind, in four modes, through both map types."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_redirect(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
