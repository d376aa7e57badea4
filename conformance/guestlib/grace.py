# SPDX-License-Identifier: GPL-2.0-only
"""How long a scenario looks for data that is missing although the kernel seems at rest.

The host may ask for a case with a limit to that, once other cases have shown the same loss with all the time there is.
A scenario asks for it by `limit()`, and tells by `gave_up()` when it has looked in vain.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

LEAST, MOST = 0.01, 1.0
"""Seconds a limit may be."""

SCENARIO, SECONDS = "grace_scenario", "grace_seconds"
"""The parameters that a case gets beside its own: whose scenario it is, and the limit."""


class _Limit:
    """What the case that is carried out now was given."""

    seconds = math.inf
    cuts = 0


_now = _Limit()


def limit() -> float:
    """Return how many seconds the case may look for missing data; infinite unless the host says otherwise."""
    return _now.seconds


def gave_up(waited: float, grace: float) -> None:
    """Tell that the case looked in vain for so many seconds, and how many it would have been without a limit."""
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
