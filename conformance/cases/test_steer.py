# SPDX-License-Identifier: GPL-2.0-only
"""Steer: connections and datagrams go to the socket that an sk_lookup or reuseport program selects from a map."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_steer(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
