# SPDX-License-Identifier: GPL-2.0-only
"""The hammer's cases: every kind as IN with every kind as OUT. They run only with --stress SECONDS."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Final

from conformance.groups.kinds import KINDS
from conformance.model import Case

PROMISE: Final = "While several threads change maps, sockets and programs, nothing hangs or warns, and nothing leaks."

GROUP: Final = "hammer"
_SECONDS: Final = 5.0
_SEED: Final = 1
_FIXED: Final = 20.0


@cache
def hammer_cases() -> tuple[Case, ...]:
    """List the pairs."""
    return tuple(
        of_force(
            Case(
                group=GROUP,
                name=f"{in_}-{out}",
                scenario="conformance.groups.hammer.guest.scenario:run",
                params={"in": in_, "out": out},
            ),
            _SECONDS,
            _SEED,
        )
        for in_, out in product(KINDS, KINDS)
    )


def of_force(case: Case, seconds: float, seed: int) -> Case:
    """Return the case with this duration and this random seed."""
    return replace(case, params={**case.params, "seconds": str(seconds), "seed": str(seed)}, deadline=_FIXED + seconds)
