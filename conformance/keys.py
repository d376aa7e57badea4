# SPDX-License-Identifier: GPL-2.0-only
"""Where the plugin keeps its state in pytest's config."""

from __future__ import annotations

import pytest

from conformance.workbench import Workbench

SPECS: pytest.StashKey[dict[str, str]] = pytest.StashKey()
"""Slug to spec of the kernels under test, in the order asked for."""
WORKBENCH: pytest.StashKey[Workbench] = pytest.StashKey()
"""The workbench of this process, once the kernels are known."""
