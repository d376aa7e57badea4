# SPDX-License-Identifier: GPL-2.0-only
"""TLS: a socket in a map encrypts and decrypts as outside of maps, or the kernel refuses its keys."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_tls(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
