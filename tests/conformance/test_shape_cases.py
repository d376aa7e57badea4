# SPDX-License-Identifier: GPL-2.0-only
"""The cases about changed messages and packets: the tables decide each, and a wrong answer is a failure."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from conformance.groups.shape.cases import WARM_UP, shape_cases
from conformance.groups.shape.guest import message, packet, sending
from conformance.judge import steps
from conformance.judge.defects import deviations
from conformance.judge.judge import judge
from conformance.model import Case, KernelFacts, Verdict
from kernels.version import Version
from tests.conformance.expectations import answers, deciding, shown

KERNELS = ("5.10.223", "5.10.262", "6.1.192", "6.12.118", "6.18.15", "7.3.4")
ALL = shape_cases()


def find(name: str) -> Case:
    """Return a case by its name."""
    return next(case for case in ALL if case.name == name)


def facts(version: str) -> KernelFacts:
    """Return the facts of a kernel."""
    return KernelFacts(Version.parse(version), {})


def test_cases_by_question() -> None:
    """A removed case is noticed."""
    assert Counter(case.params["question"] for case in ALL) == COUNTS
    assert len({case.name for case in ALL}) == len(ALL)
    assert {case.name for case in ALL} >= WARM_UP


COUNTS = {
    "change": 80,
    "overflow": 7,
    "header": 4,
    "visible": 7,
    "spliced": 8,
    "applied": 20,
    "corked": 14,
    "overfull": 1,
    "dead": 1,
    "packet": 61,
}


@pytest.mark.parametrize("version", KERNELS)
def test_every_case_has_expectations(version: str) -> None:
    """The tables decide each case on every kernel."""
    assert not [case.name for case in ALL if not answers(case, version)]


def test_every_row_decides_something_on_some_kernel() -> None:
    """Every row decides a case on some kernel."""
    rules = itertools.chain.from_iterable(steps.table("shape").rules.values())
    assert {rule.id for rule in rules} == deciding("shape", KERNELS)


@pytest.mark.parametrize("version", ["5.10.262", "7.3.4"])
def test_every_step_is_judged(version: str) -> None:
    """A case fails if any one answer is wrong or missing."""
    for case in ALL[::7]:
        right = answers(case, version)
        if deviations(case, Version.parse(version)):
            continue
        assert judge(case, facts(version), {"steps": right}).verdict is Verdict.PASS
        for step in right:
            assert judge(case, facts(version), {"steps": right | {step: "otherwise"}}).verdict is Verdict.FAIL
            rest = {name: answer for name, answer in right.items() if name != step}
            assert judge(case, facts(version), {"steps": rest}).verdict is not Verdict.PASS


def test_the_guest_has_what_the_cases_ask_for() -> None:
    """Each scenario and each form of sending exists."""
    for case in ALL:
        module, _, name = case.scenario.partition(":")
        assert hasattr({"message": message, "packet": packet}[module.rpartition(".")[2]], name)
    asked = {case.params["form"] for case in ALL if "form" in case.params}
    assert asked <= set(sending.FORMS)


@pytest.mark.parametrize(
    ("version", "visible"),
    [("5.10.262", "nothing"), ("6.1.192", "nothing"), ("6.12.118", "0..12"), ("7.3.4", "0..12")],
)
def test_what_is_visible_of_a_spliced_file(version: str, visible: str) -> None:
    """The pages of a file are in the message before 6.5, and the program must not see them; then they are copied."""
    assert answers(find("visible-file"), version)["before"] == visible


@pytest.mark.parametrize(
    ("version", "received"),
    [("5.10.262", "target abcdefgh, far i"), ("6.1.1", "target abcdefgh, far i"), ("6.1.192", "target abcdefghi")],
)
def test_where_the_ninth_byte_goes(version: str, received: str) -> None:
    """Before a351d6087bf7 a verdict that holds for a second send(2) loses its direction; that is no promise."""
    case = find("applied-3-8.1-local")
    assert answers(case, version)["received"] == "target abcdefghi"
    assert shown(case, version)["received"] == received


@pytest.mark.parametrize(("version", "dies"), [("6.18.39", True), ("6.18.40", False), ("5.10.262", False)])
def test_an_overflow_that_kills_is_a_known_defect(version: str, *, dies: bool) -> None:
    """A length near 4 GiB is refused, or else the kernel is one that is known to die of it."""
    case = find("overflow-push-0-4294967294-full-wide")
    assert answers(case, version)["helper"] == "EINVAL"
    assert any(row.verdict is Verdict.PANIC for row in deviations(case, Version.parse(version))) == dies
