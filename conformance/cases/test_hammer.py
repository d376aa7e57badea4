# SPDX-License-Identifier: GPL-2.0-only
"""Hammer: every way out of a map at once, while data flows; only with `--stress SECONDS`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.groups.hammer.cases import of_force
from conformance.model import Case


def test_hammer(case: Case, conform: Callable[[Case], None], pytestconfig: pytest.Config) -> None:
    """Judge one case by what its group promises."""
    options = pytestconfig.option
    conform(of_force(case, options.conform_stress, options.conform_seed))
