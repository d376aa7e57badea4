# SPDX-License-Identifier: GPL-2.0-only
"""Choose one of the faults of conformance/teeth/faults.patch in a kernel that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.guestlib.procfs import read, write

PARAMETER: Final = "/sys/module/kernel/parameters/sockmap_fault"


def choose(arguments: Mapping[str, str]) -> str:
    """Have the kernel behave as fault `number` says from now on, and return the number that it took.

    OSError where the kernel has no faults to choose from.
    """
    write(PARAMETER, arguments["number"])
    return read(PARAMETER).strip()
