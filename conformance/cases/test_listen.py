# SPDX-License-Identifier: GPL-2.0-only
"""Listen: what a listener in a map accepts, and the listener itself, when it stays, leaves the map or is closed."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_listen(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
