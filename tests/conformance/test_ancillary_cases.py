# SPDX-License-Identifier: GPL-2.0-only
"""The ancillary cases and their expectations, without a kernel."""

from __future__ import annotations

import itertools

import pytest

from conformance.groups.ancillary.cases import MODES, ancillary_cases
from conformance.groups.kinds import KINDS, MAPS
from conformance.judge.judge import judge
from conformance.judge.needs import unmet
from conformance.judge.steps import of_control, table
from conformance.model import Case, KernelFacts, Verdict
from kernels.version import Version
from tests.conformance.expectations import observation

NEW = KernelFacts(Version.parse("7.3.4"), {})


def case_of(what: str, mode: str) -> Case:
    """Return the first case about something in a mode."""
    return next(each for each in ancillary_cases() if (each.params["what"], each.params["mode"]) == (what, mode))


def test_the_cells_of_the_kernels_own_test_are_all_there() -> None:
    """The kernel's sockmap_redir has 64 subtests with MSG_OOB."""
    cells = {tuple(each.params.values())[1:] for each in ancillary_cases() if each.params["what"] == "redirect-oob"}
    assert cells == set(itertools.product(MODES, MAPS, KINDS))
    assert len(cells) == 64


def test_every_question_is_asked_in_both_maps() -> None:
    """A question that only one type of map is asked would not see a defect of the other."""
    places = {(case.params["what"], case.params["map"]) for case in ancillary_cases()}
    asked = {what for what, _ in places}
    assert {what for what in asked if len([place for place in places if place[0] == what]) < 2} == set()


def test_what_an_old_kernel_lacks_is_not_asked() -> None:
    """Before 5.13 no program runs on a UDP socket, which is not a finding about datagrams."""
    old = KernelFacts(Version.parse("5.10.262"), {})
    assert unmet(case_of("datagram", "pass"), old)
    assert unmet(case_of("datagram", "member"), old) is None
    assert unmet(case_of("datagram", "pass"), NEW) is None


@pytest.mark.parametrize(
    ("what", "mode"),
    [
        ("datagram", "member"),
        ("options", "member"),
        ("credentials", "member"),
        ("rights", "local"),
        ("rights-wait", "drained"),
        ("urgent", "local"),
        ("urgent-inline", "msg"),
        ("zerocopy-send", "pass"),
        ("zerocopy-receive", "local"),
        ("redirect-oob", "send-to-local"),
    ],
)
def test_each_wrong_step_fails(what: str, mode: str) -> None:
    """Each step decides its case, and so does the control where the case has one."""
    case = case_of(what, mode)
    wanted = {name: rule.outcome for name, rule in table("ancillary").expected(case.params, NEW.version).items()}
    usual = {step.removeprefix("control "): answer for step, answer in wanted.items() if of_control(step)}
    for step in wanted:
        seen = observation(case, "7.3.4", usual)
        seen.setdefault("control", {}).update(usual)
        assert judge(case, NEW, seen).verdict is Verdict.PASS
        part, name = ("control", step.removeprefix("control ")) if of_control(step) else ("steps", step)
        seen[part][name] = "wrong"
        assert judge(case, NEW, seen).verdict is Verdict.FAIL
