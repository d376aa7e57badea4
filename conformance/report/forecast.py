# SPDX-License-Identifier: GPL-2.0-only
"""The remaining time of a run: from the durations of the same cases in the last run, at the pace of this one.

Without such a run there is no forecast: cases of one group differ fivefold, those of different groups a hundredfold,
and the same cases on two kernels tenfold, because some kernels hang where others answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from common import cache
from common.errors import HostError
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run

Planned = Mapping[str, frozenset[str]]
"""By the kernel's slug, the ids of all cases that a run will see."""

_LEAST = 100
"""Least number of cases of a kernel to remember; fewer are done before a forecast helps."""
_TRUST = 0.05
"""The weight of the last run's pace, as a share of this one, so that the first cases do not decide alone."""
_ENOUGH_CASES = 20
"""Cases of a kernel after which its pace is known."""
_NOTHING: tuple[float, dict[str, float]] = (0.0, {})


def remember(run: Run) -> None:
    """Store the seconds of each case, and the kernel's total relative to their sum; a failure to store is ignored.

    The stored seconds of other cases stay.
    """
    for slug in run.slugs:
        cases = run.cases.get(slug, ())
        took = {case.id: round(case.seconds, 4) for case in cases}
        together = sum(took.values())
        if len(cases) >= _LEAST and together:
            known = {"pace": round(run.seconds(slug) / together, 4), "cases": (_load(slug) or _NOTHING)[1] | took}
            with suppress(HostError, OSError):
                cache.write(_path(slug), json.dumps(known).encode())


class Forecast:
    """Estimates the remaining time of a run from the last durations of its cases."""

    def __init__(self, planned: Planned, before: Run | None = None) -> None:
        """Look up the planned cases; those that a resumed run has finished, `before`, take no time."""
        self._before_at = {
            (slug, case.id): case.at for slug in planned for case in (before.cases.get(slug, ()) if before else ())
        }
        planned = {slug: ids - _judged(slug, before) for slug, ids in planned.items()}
        last = {slug: _load(slug) or _NOTHING for slug in planned}
        known = {
            slug: {each: last[slug][1][each] for each in ids & last[slug][1].keys()} for slug, ids in planned.items()
        }
        self._before = {slug: sum(cases.values()) for slug, cases in known.items()}
        self._seconds = sum(last[slug][0] * before for slug, before in self._before.items())
        count = sum(map(len, known.values()))
        self._unknown = {slug for slug, ids in planned.items() if 2 * len(known[slug]) < len(ids)}
        self._usual = sum(self._before.values()) / count if count else 1.0
        self._weights = {slug: dict.fromkeys(ids, self._usual) | known[slug] for slug, ids in planned.items()}

    def left(self, run: Run, elapsed: float) -> float | None:
        """Return the remaining seconds after `elapsed`; None if unknown."""
        before = sum(self._before.values())
        alive = [slug for slug in self._weights if not run.kernel(slug).error]
        if not self._unknown.isdisjoint(alive):
            return None
        cases = {slug: [case for case in run.cases.get(slug, ()) if self._is_new(slug, case)] for slug in alive}
        done = {slug: sum(self._weight(slug, case) for case in cases[slug]) for slug in alive}
        took = {slug: sum(case.seconds for case in cases[slug]) for slug in alive}
        slower = _ratio(sum(took.values()), sum(done.values()))
        left = 0.0
        for slug in alive:
            # A kernel may have become slower than the others: use its own pace after some cases.
            own = _ratio(took[slug], done[slug]) / slower if len(cases[slug]) >= _ENOUGH_CASES else 1.0
            left += max(0.0, sum(self._weights[slug].values()) - done[slug]) * own
        pace = (sum(done.values()) + _TRUST * before) / (elapsed + _TRUST * self._seconds)
        return left / pace if pace else None

    def _is_new(self, slug: str, case: CaseEvent) -> bool:
        """Return whether this process judged the case, not the interrupted run."""
        return self._before_at.get((slug, case.id)) != case.at

    def _weight(self, slug: str, case: CaseEvent) -> float:
        return self._weights[slug].get(case.id, self._usual)


def _ratio(took: float, expected: float) -> float:
    return took / expected if took and expected else 1.0


def _judged(slug: str, run: Run | None) -> frozenset[str]:
    """Return the cases that need not be judged again."""
    cases = run.cases.get(slug, ()) if run is not None else ()
    return frozenset(case.id for case in cases if case.verdict is not Verdict.INFRA)


def _path(slug: str) -> Path:
    return cache.root() / "durations" / f"{slug}.json"


def _load(slug: str) -> tuple[float, dict[str, float]] | None:
    """Return a kernel's total relative to the sum of its cases, and the seconds of each; None if not stored."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = json.loads(_path(slug).read_bytes())
        return float(known["pace"]), {str(name): float(seconds) for name, seconds in known["cases"].items()}
    return None
