# SPDX-License-Identifier: GPL-2.0-only
"""Enrol: a socket gets into a map by its own process, a message, theft, sock_ops or an iterator, and is used."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_enrol(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
