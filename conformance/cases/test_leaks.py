# SPDX-License-Identifier: GPL-2.0-only
"""Leaks: remove many sockets from a map in one way; then nothing of them is left in the kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.groups.leaks.cases import of_length
from conformance.model import Case


def test_leaks(case: Case, conform: Callable[[Case], None], pytestconfig: pytest.Config) -> None:
    """Judge one case by what its group promises."""
    conform(of_length(case, pytestconfig.option.conform_rounds))
