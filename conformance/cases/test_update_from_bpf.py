# SPDX-License-Identifier: GPL-2.0-only
"""Updates from BPF: what the verifier lets every type of program do."""

from __future__ import annotations

from collections.abc import Callable

from conformance.model import Case


def test_update_from_bpf(case: Case, conform: Callable[[Case], None]) -> None:
    """Judge one case by what its group promises."""
    conform(case)
