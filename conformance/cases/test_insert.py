# SPDX-License-Identifier: GPL-2.0-only
"""Insert: every socket kind in every state, and every bpf(2) command on a map that holds sockets."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_insert(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
