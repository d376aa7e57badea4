# SPDX-License-Identifier: GPL-2.0-only
"""Redirect: every IN kind to every OUT kind, in four modes, through both map types."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_redirect(case: Case, conform: Callable[[Case], None]) -> None:
    """Data redirected from IN reaches exactly the sockets this kernel version promises, unchanged and in order."""
    conform(case)
