# SPDX-License-Identifier: GPL-2.0-only
"""What it costs the guest that every case has a window of the kernel log, and the taint word before and after.

Guest code, of the benchmark only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from vm.guest.kmsg import KernelLog

_ROUNDS = 100


def measure(params: Mapping[str, Any]) -> dict[str, float]:
    """Open and close windows as the agent does for each case; returns the `seconds` one takes."""
    log = KernelLog()
    log.window()  # what was logged so far is no case's
    begin = time.perf_counter()
    for _ in range(_ROUNDS):
        log.begin(" ".join(map(str, params.values())))
        log.window()
    return {"seconds": (time.perf_counter() - begin) / _ROUNDS}
