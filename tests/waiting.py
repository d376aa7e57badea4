# SPDX-License-Identifier: GPL-2.0-only
"""Wait for something to become true, with a deadline, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which a wait has failed; generous, because only a failing test waits that long."""


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Return once `condition` holds; raise AssertionError with `what` if it does not within PATIENCE."""
    deadline = time.monotonic() + patience
    pause = 0.001
    while not condition():
        assert time.monotonic() < deadline, f"not so after {patience:g} s: {what}"
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
