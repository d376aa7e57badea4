# SPDX-License-Identifier: GPL-2.0-only
"""How long a run still takes: weighed by what the same cases took in the last run, at the pace of this one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from common import cache
from common.errors import HostError
from conformance.report.events import Run

Planned = Mapping[str, frozenset[str]]
"""By the kernel's slug, the ids of all cases that a run will see."""

_LEAST = 100
"""Cases of a kernel; fewer are done before anybody has read a forecast."""
_TRUST = 0.05
"""How much of the last run counts as if it had been part of this one, so that the first cases do not say it all."""
_SOON = 2.0
"""Seconds after which a run tells its pace without a last one to go by."""


def remember(run: Run) -> None:
    """Keep how long each case took, and the kernel as a whole by the sum of its cases; no harm where it cannot be kept.

    What is known of other cases of the kernel stays.
    """
    for slug in run.slugs:
        cases = run.cases.get(slug, ())
        took = {case.id: round(case.seconds, 4) for case in cases}
        together = sum(took.values())
        if len(cases) >= _LEAST and together:
            known = {"pace": round(run.seconds(slug) / together, 4), "cases": _load(slug)[1] | took}
            with suppress(HostError, OSError):
                cache.write(_path(slug), json.dumps(known).encode())


class Forecast:
    """What is known of a run before it begins: how long its cases took when they were last run."""

    def __init__(self, planned: Planned) -> None:
        last = {slug: _load(slug) for slug in planned}
        known = {
            slug: {each: last[slug][1][each] for each in ids & last[slug][1].keys()} for slug, ids in planned.items()
        }
        self._before = {slug: sum(cases.values()) for slug, cases in known.items()}
        self._seconds = sum(last[slug][0] * before for slug, before in self._before.items())
        count = sum(map(len, known.values()))
        self._usual = sum(self._before.values()) / count if count else 1.0
        self._weights = {slug: dict.fromkeys(ids, self._usual) | known[slug] for slug, ids in planned.items()}

    def left(self, run: Run, elapsed: float) -> float | None:
        """Return the seconds that are left after `elapsed`; None where nobody can tell yet."""
        before = sum(self._before.values())
        if not before and elapsed < _SOON:
            return None
        total = done = 0.0
        for slug, weights in self._weights.items():
            if not run.kernel(slug).error:
                total += sum(weights.values())
                done += sum(weights.get(case.id, self._usual) for case in run.cases.get(slug, ()))
        pace = (done + _TRUST * before) / (elapsed + _TRUST * self._seconds)
        return max(0.0, total - done) / pace if pace else None


def _path(slug: str) -> Path:
    return cache.root() / "durations" / f"{slug}.json"


def _load(slug: str) -> tuple[float, dict[str, float]]:
    """Return what a kernel took by the sum of its cases, and what each took; nothing where nothing sound is kept."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = json.loads(_path(slug).read_bytes())
        return float(known["pace"]), {str(name): float(seconds) for name, seconds in known["cases"].items()}
    return 0.0, {}
