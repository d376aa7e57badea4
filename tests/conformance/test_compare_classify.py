# SPDX-License-Identifier: GPL-2.0-only
"""The change of a case, as a function of the results on both kernels."""

from __future__ import annotations

from dataclasses import replace
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.compare.classify import classify, fisher
from conformance.compare.model import Change, Opinion, Side, TryResult

GOOD = TryResult((("outcome", "delivered"),), Opinion.PROMISED)
LOST = TryResult((("outcome", "dropped"),), Opinion.WRONG)
SPLAT = TryResult((("splat", "WARNING: at net/core/skmsg.c"),), Opinion.WRONG)
OTHERWISE = TryResult((("outcome", "refused-EACCES"),), Opinion.PROMISED)
UNHEARD = TryResult((("outcome", "circulates"),), Opinion.NONE)
SKIPPED = TryResult((("skipped", "CONFIG_UNIX is not set"),), Opinion.NOT_ASKED)
BROKEN = TryResult((("infra", "no machine"),), Opinion.NOT_JUDGED)


def always(symptom: TryResult, times: int = 5) -> Side:
    """Make a side that shows the same every time."""
    return Side(symptom, (symptom,) * times)


def mixed(*tries: TryResult) -> Side:
    """Make a side whose first try was in the run."""
    return Side(tries[0], tries)


@pytest.mark.parametrize(
    ("base", "head", "change"),
    [
        (always(GOOD), always(GOOD), Change.SAME),
        (always(GOOD), always(LOST), Change.REGRESSION),
        (always(GOOD), always(SPLAT), Change.REGRESSION),
        (always(GOOD), always(UNHEARD), Change.REGRESSION),
        (always(LOST), always(GOOD), Change.FIX),
        (always(LOST), always(UNHEARD), Change.FIX),
        (always(LOST), always(LOST), Change.STILL_FAILING),
        (always(LOST), always(SPLAT), Change.CHANGED),
        (always(GOOD), always(OTHERWISE), Change.AS_PROMISED),
        (Side(None), always(LOST), Change.APPEARED),
        (Side(SKIPPED), always(GOOD), Change.APPEARED),
        (always(GOOD), Side(SKIPPED), Change.VANISHED),
        (Side(SKIPPED), Side(None), Change.SAME),
        (Side(BROKEN, (BROKEN,)), always(GOOD), Change.NOT_JUDGED),
        (Side(BROKEN, (GOOD, GOOD)), always(GOOD), Change.SAME),
        (always(GOOD), mixed(LOST, LOST, LOST, LOST, GOOD), Change.REGRESSION),
        (always(GOOD), mixed(LOST, SPLAT, LOST, SPLAT, LOST), Change.REGRESSION),
        (always(GOOD), mixed(LOST, LOST, LOST, GOOD, GOOD), Change.UNSTABLE),
        (always(GOOD), Side(LOST, (GOOD,) * 5), Change.UNSTABLE),
        (mixed(LOST, LOST, LOST, LOST, GOOD), always(GOOD), Change.FIX),
        (mixed(GOOD, GOOD, GOOD, GOOD, LOST), always(SPLAT), Change.REGRESSION),
        (Side(GOOD), Side(LOST), Change.REGRESSION),
        (Side(GOOD), Side(LOST, flaky=True), Change.UNSTABLE),
    ],
)
def test_what_has_become_of_a_case(base: Side, head: Side, change: Change) -> None:
    """Every change, and differences that are too rare to be one."""
    assert classify(base, head) is change


def test_strictly_a_promise_of_head_alone_is_a_regression() -> None:
    """With --strict a change that only head's version promises is a regression."""
    assert classify(always(GOOD), always(OTHERWISE), strict=True) is Change.REGRESSION


OPINIONS = st.sampled_from([Opinion.PROMISED, Opinion.WRONG])
ANSWERS = st.sampled_from("abc")


@st.composite
def sides(draw: st.DrawFn, opinions: st.SearchStrategy[Opinion] = OPINIONS) -> Side:
    """Draw the results of a kernel; the same answer always has the same opinion."""
    opinion = {answer: draw(opinions) for answer in "abc"}
    tries = [TryResult((("outcome", answer),), opinion[answer]) for answer in draw(st.lists(ANSWERS, min_size=1))]
    return Side(tries[0], tuple(tries[1:]))


@given(sides(), sides(), st.randoms())
def test_the_order_of_tries_does_not_matter(base: Side, head: Side, chance: st.DataObject) -> None:
    """Only the first try is special, because it was selected."""
    shuffled = list(head.tries)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    before = classify(base, head)

    # There is no usual result if two results are equally frequent.
    if len(set(head.frequencies().values())) == len(head.frequencies()):
        assert classify(base, replace(head, tries=tuple(shuffled))) is before


@given(sides(), sides())
def test_what_is_a_regression_one_way_is_a_fix_the_other(base: Side, head: Side) -> None:
    """To swap the sides swaps the words, and nothing else."""
    mirror = {Change.REGRESSION: Change.FIX, Change.FIX: Change.REGRESSION}
    there, back = classify(base, head), classify(head, base)

    if there in mirror:
        assert back is mirror[there]


@given(sides())
def test_a_kernel_has_not_regressed_from_itself(side: Side) -> None:
    """Whatever it shows, and however unsteadily."""
    assert classify(side, side) in (Change.SAME, Change.STILL_FAILING, Change.UNSTABLE)


@given(sides(), sides(st.just(Opinion.PROMISED)))
def test_a_kernel_that_keeps_every_promise_has_not_regressed(base: Side, head: Side) -> None:
    """A regression needs something wrong."""
    assert classify(base, head) is not Change.REGRESSION


@given(sides(), sides())
def test_a_regression_was_seen_when_it_was_repeated(base: Side, head: Side) -> None:
    """A result that was wrong once and never again is not a regression."""
    if classify(base, head) is Change.REGRESSION:
        assert any(symptom.opinion is Opinion.WRONG for symptom in head.counted)


def test_fisher() -> None:
    """The probabilities are those of the textbook."""
    assert isclose(fisher(4, 5, 0, 5), 5 / 210)
    assert isclose(fisher(3, 5, 0, 5), 10 / 120)
    assert fisher(0, 5, 0, 5) == 1
