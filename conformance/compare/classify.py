# SPDX-License-Identifier: GPL-2.0-only
"""The change of a case from base to head: a pure function of the results on both.

Base is the reference. Where it is steady and not known to be wrong, every other result of head is a regression, unless
head's own version promises it. Expectations are not used otherwise: without them, every difference is a regression.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

from conformance.compare.model import Change, Opinion, Side, TryResult

CONFIDENCE = 0.05
"""Largest probability of so different tries, if both kernels behave alike, that counts as a difference."""


def classify(base: Side, head: Side, *, strict: bool = False) -> Change:
    """Return the change of a case; `strict` ignores promises of head's version that base does not make."""
    asked = _asked(base), _asked(head)
    if asked != (True, True):
        return {(False, False): Change.SAME, (False, True): Change.APPEARED, (True, False): Change.VANISHED}[asked]
    if not base.seen or not head.seen:
        return Change.NOT_JUDGED
    if base.steady and head.steady:
        return _compare(base.seen[0], head.seen[0], strict=strict)
    return _unsteady(base, head, strict=strict)


def fisher(hits: int, tries: int, other_hits: int, other_tries: int) -> float:
    """Return Fisher's exact probability, one-sided: of so many or more hits among the tries if both are alike."""
    total, all_hits = tries + other_tries, hits + other_hits
    ways = sum(
        comb(tries, count) * comb(other_tries, all_hits - count) for count in range(hits, min(tries, all_hits) + 1)
    )
    return ways / comb(total, all_hits)


def _asked(side: Side) -> bool:
    return side.first is not None and side.first.opinion is not Opinion.NOT_ASKED


def _compare(base: TryResult, head: TryResult, *, strict: bool) -> Change:
    """Compare two kernels that each always show the same result."""
    was_wrong = base.opinion is Opinion.WRONG
    if base == head:
        return Change.STILL_FAILING if head.opinion is Opinion.WRONG else Change.SAME
    is_wrong = head.opinion is Opinion.WRONG or (not was_wrong and (strict or head.opinion is Opinion.NONE))
    if is_wrong:
        return Change.CHANGED if was_wrong else Change.REGRESSION
    return Change.FIX if was_wrong else Change.AS_PROMISED


def _unsteady(base: Side, head: Side, *, strict: bool) -> Change:
    """Compare two kernels with changing results by a statistical test."""
    usual, now_usual = (side.frequencies().most_common(1)[0][0] for side in (base, head))

    def is_worse(symptom: TryResult) -> bool:
        return _compare(usual, symptom, strict=strict) is Change.REGRESSION

    def was_worse(symptom: TryResult) -> bool:
        return _compare(symptom, now_usual, strict=strict) is Change.FIX

    if _more_often(is_worse, head, base):
        return Change.REGRESSION
    return Change.FIX if _more_often(was_worse, base, head) else Change.UNSTABLE


def _more_often(bad: Callable[[TryResult], bool], one: Side, other: Side) -> bool:
    hits, other_hits = (sum(map(bad, side.counted)) for side in (one, other))
    return fisher(hits, len(one.counted), other_hits, len(other.counted)) <= CONFIDENCE
