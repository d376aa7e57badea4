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

_LEAST = 100
"""Cases of a kernel; fewer are done before anybody has read a forecast."""
_TRUST = 0.05
"""How much of the last run counts as if it had been part of this one, so that the first cases do not say it all."""
_SOON = 2.0
"""Seconds after which a run tells its pace without a last one to go by."""


def remember(run: Run) -> None:
    """Keep how long each case took, of kernels that were judged whole; what cannot be kept is no harm."""
    for slug in run.slugs:
        cases = run.cases.get(slug, ())
        if len(cases) >= _LEAST and not run.unseen(slug):
            known = {"seconds": run.seconds(slug), "cases": {case.id: round(case.seconds, 4) for case in cases}}
            with suppress(HostError, OSError):
                cache.write(_path(slug), json.dumps(known).encode())


class Forecast:
    """What is known of a run before it begins: the last run of each of its kernels, if that had as many cases."""

    def __init__(self, selected: Mapping[str, int]) -> None:
        self._selected = dict(selected)
        self._cases: dict[str, Mapping[str, float]] = {}
        self._seconds = 0.0
        for slug, count in selected.items():
            seconds, cases = _load(slug)
            if len(cases) == count:
                self._cases[slug] = cases
                self._seconds += seconds

    def left(self, run: Run, elapsed: float) -> float | None:
        """Return the seconds that are left after `elapsed`; None where nobody can tell yet."""
        weights = [weight for cases in self._cases.values() for weight in cases.values()]
        usual = sum(weights) / len(weights) if weights else 1.0
        total = done = before = 0.0
        for slug, count in self._selected.items():
            known, cases = self._cases.get(slug, {}), run.cases.get(slug, ())
            if run.kernel(slug).error:
                continue
            whole = sum(known.values()) or usual * count
            total += whole
            before += whole if known else 0.0
            done += sum(known.get(case.id, usual) for case in cases)
        if not before and elapsed < _SOON:
            return None
        pace = (done + _TRUST * before) / (elapsed + _TRUST * self._seconds)
        return max(0.0, total - done) / pace if pace else None


def _path(slug: str) -> Path:
    return cache.root() / "durations" / f"{slug}.json"


def _load(slug: str) -> tuple[float, Mapping[str, float]]:
    """Return what the last run of a kernel and each of its cases took; nothing where nothing sound is kept."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = json.loads(_path(slug).read_bytes())
        return float(known["seconds"]), {str(name): float(seconds) for name, seconds in known["cases"].items()}
    return 0.0, {}
