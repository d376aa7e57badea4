# SPDX-License-Identifier: GPL-2.0-only
"""Make plain `pytest conformance` and `pytest tests` work from the checkout."""

from __future__ import annotations

pytest_plugins = ("conformance.run.plugin",)
