# SPDX-License-Identifier: GPL-2.0-only
"""Wait for something to become true, with a deadline, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which what was waited for will not come; generous, for nobody waits that long unless it fails."""


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Return once `condition` holds; AssertionError naming `what` if it never does."""
    deadline = time.monotonic() + patience
    pause = 0.001
    while not condition():
        assert time.monotonic() < deadline, f"not so after {patience:g} s: {what}"
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
