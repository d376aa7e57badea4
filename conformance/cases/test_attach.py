# SPDX-License-Identifier: GPL-2.0-only
"""Attach: every kind of program, as every type, to every map, by hand and by links; and which ones sockets then run."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_attach(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
