# SPDX-License-Identifier: GPL-2.0-only
"""How long a scenario waits for data that has not arrived although the kernel seems idle.

Once other cases have shown the same loss with the full grace, the host may run a case with a shorter one.
A scenario gets it from `limit()`, and calls `gave_up()` if the data did not arrive within it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

LEAST, MOST = 0.01, 1.0
"""The shortest and the longest limit, in seconds."""

SCENARIO, SECONDS = "grace_scenario", "grace_seconds"
"""Parameters that are added to those of the case: its scenario, and the limit."""


class _Limit:
    """The limit of the current case."""

    seconds = math.inf
    cuts = 0


_now = _Limit()


def limit() -> float:
    """Return how many seconds the case may look for missing data; infinite unless the host says otherwise."""
    return _now.seconds


def gave_up(waited: float, grace: float) -> None:
    """Record that the case waited this many seconds without success, and how many without a limit."""
    _now.cuts += waited <= grace


def limited(params: Mapping[str, str]) -> dict[str, Any]:
    """Carry out a case with a limit; returns its `observation`, and how often it was `cut` short."""
    own = dict(params)
    module, _, name = own.pop(SCENARIO).partition(":")
    seconds = float(own.pop(SECONDS))
    if not LEAST <= seconds <= MOST:
        raise ValueError(f"a limit is {LEAST} to {MOST} seconds, not {seconds}")
    _now.seconds, _now.cuts = seconds, 0
    try:
        observation = getattr(importlib.import_module(module), name)(own)
        return {"observation": observation, "cut": _now.cuts}
    finally:
        _now.seconds = math.inf
