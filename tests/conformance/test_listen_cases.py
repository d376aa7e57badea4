# SPDX-License-Identifier: GPL-2.0-only
"""The listener cases and their expectations, without a kernel."""

from __future__ import annotations

from collections import Counter

import pytest

from conformance.groups.listen.cases import LISTENERS, PROGRAMS, listen_cases
from conformance.judge import defects
from conformance.judge.judge import judge
from conformance.judge.needs import unmet
from conformance.model import Case, KernelFacts, Verdict
from kernels.version import Version
from tests.conformance.expectations import observation

NEW = KernelFacts(Version.parse("7.3.4"), {})
OLD = KernelFacts(Version.parse("5.10.262"), {})


def asked(facts: KernelFacts) -> list[Case]:
    """Return the cases that a kernel is asked."""
    return [case for case in listen_cases() if unmet(case, facts) is None]


def test_each_program_meets_each_state_of_the_listener_in_both_maps() -> None:
    """Each pair of program and listener state is asked with both map types and both IP versions."""
    found = Counter(
        (case.params["program"], case.params["listener"], case.params["map"], case.params["kind"])
        for case in listen_cases()
        if case.params["what"] == "child"
    )
    for program in PROGRAMS:
        for listener in LISTENERS:
            assert found[program, listener, "sockmap", "tcp4"]
            assert found[program, listener, "sockhash", "tcp6"]


def test_what_enrol_asks_is_not_asked_again() -> None:
    """The group enrol asks about data after accept(2) for a child of a listener in a map with a verdict."""
    wanted = {"what": "child", "program": "verdict", "child": "apart", "listener": "kept", "data": "late"}
    assert not [case.id for case in listen_cases() if wanted.items() <= case.params.items()]


def test_a_kernel_that_dies_is_asked_once_for_each_way() -> None:
    """Of the cases that kill the kernel, one for each defect is asked; a kernel without the defects is asked all."""
    deadly = {case.id for case in asked(NEW) if any(row.verdict for row in defects.deviations(case, NEW.version))}
    assert deadly == {row.case for row in defects.of_group("listen") if row.verdict}
    assert len(asked(OLD)) == len(listen_cases())


@pytest.mark.parametrize("step", ["ready", "woken", "room", "receive", "runs", "entry", "early", "insert", "send"])
def test_a_wrong_answer_fails(step: str) -> None:
    """Each step of a child decides its case."""
    case = next(each for each in listen_cases() if "msg-inserted-kept-early" in each.name)
    right = {"ready": "yes", "accept": "ok", "receive": "child", "woken": "yes", "send": "peer", "room": "yes"}
    seen = observation(case, "7.3.4", {**right, "early": "child"})
    seen["control"] |= right
    assert judge(case, NEW, seen).verdict is Verdict.PASS

    seen["steps"][step] = "no"
    assert judge(case, NEW, seen).verdict is Verdict.FAIL


def test_a_control_without_wakeups_fails() -> None:
    """A control that fails in the same way as the child does not make the case pass."""
    case = next(each for each in listen_cases() if "msg-apart-kept-late" in each.name)
    deaf = {"ready": "no", "accept": "ok", "receive": "nowhere", "woken": "no", "send": "peer", "room": "no"}
    seen = observation(case, "7.3.4", deaf)
    seen["control"] |= deaf
    assert judge(case, NEW, seen).verdict is Verdict.FAIL
