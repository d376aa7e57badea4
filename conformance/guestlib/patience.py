# SPDX-License-Identifier: GPL-2.0-only
"""Wait for what the kernel does behind our back: no event tells of it, so it is asked again and again."""

from __future__ import annotations

import time
from collections.abc import Callable


def nap() -> None:
    """Let a millisecond pass."""
    time.sleep(0.001)


def comes_true(holds: Callable[[], object], seconds: float, meanwhile: Callable[[], object] = nap) -> bool:
    """Ask until it holds, with `meanwhile` between; False if it still does not after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        meanwhile()
    return True
