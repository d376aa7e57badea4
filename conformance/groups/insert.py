# SPDX-License-Identifier: GPL-2.0-only
"""The insertion cases: which sockets a map takes, and what the map says to everything user space asks of it."""

from __future__ import annotations

from functools import cache

from conformance.model import Case


@cache
def insert_cases() -> tuple[Case, ...]:
    """List the insertion cases."""
    return ()
