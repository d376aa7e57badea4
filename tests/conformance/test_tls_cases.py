# SPDX-License-Identifier: GPL-2.0-only
"""The cases with kernel TLS: guest and list agree, the tables decide each step, and no wrong answer passes."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from conformance.groups.tls import cases as tls
from conformance.groups.tls.cases import KEYS, PROGRAMS, tls_cases
from conformance.groups.tls.guest import scenario, setup
from conformance.judge import steps
from conformance.judge.defects import deviations, of_group
from conformance.judge.judge import judge
from conformance.judge.needs import unmet
from conformance.judge.steps import judge_steps
from conformance.model import Case, Verdict
from kernels.version import Version
from tests.conformance.expectations import answers, deciding, observation
from tests.conformance.observations import facts

KERNELS: Final = ("5.10.262", "6.1.187", "6.1.192", "6.12.91", "6.12.92", "6.12.118", "6.18.15", "7.2", "7.3.4")
OLD, NEW = "6.12.110", "6.12.111"
"""The last kernel of its branch that gives keys to a socket in a map, and the first that refuses them."""


def find(name: str) -> Case:
    """Return a case by its name."""
    return next(case for case in tls_cases() if case.name == name)


def test_data_is_asked_of_each_program_with_each_keys() -> None:
    """A removed case is noticed, and so is a case that is there twice."""
    asked = {(case.params["program"], case.params["keys"]) for case in tls_cases() if case.params["what"] == "data"}
    assert asked == set(itertools.product(PROGRAMS, KEYS))
    counts = Counter(case.params["what"] for case in tls_cases())
    assert counts == {"data": 21, "delete": 4, "close": 2, "end": 3, "poll": 4, "other-socket": 5}
    assert len({case.id for case in tls_cases()}) == len(tls_cases())


def test_each_program_meets_both_types_of_map_and_both_families() -> None:
    """A defect of SOCKHASH, or of the table of IPv6, would not show in the other."""
    places = {(case.params["program"], case.params["map"], case.params["kind"]) for case in tls_cases()}
    assert places == {(name, *place) for name in PROGRAMS for place in (("sockmap", "tcp4"), ("sockhash", "tcp6"))}


def test_guest_and_cases_name_the_same_questions_and_programs() -> None:
    """The guest has what the cases ask for, and nothing else."""
    assert {case.params["what"] for case in tls_cases()} == set(scenario._QUESTIONS)
    assert set(PROGRAMS) == set(setup._PROGRAMS)


def test_each_step_that_the_guest_writes_is_in_a_row() -> None:
    """No step of the guest is without a row, and no row names a step that the guest never writes."""
    named = {step.removeprefix("control ") for step in steps.table("tls").rules}
    written = set()
    for module in ("scenario.py", "setup.py"):
        source = Path(tls.__file__).with_name("guest") / module
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "steps":
                name = node.slice.values[0] if isinstance(node.slice, ast.JoinedStr) else node.slice
                assert isinstance(name, ast.Constant)
                assert name is not node.slice or name.value in named
                written.add(stem(str(name.value)))
    assert {stem(step) for step in named} == written


def stem(step: str) -> str:
    """Return the name of a step without the suffix that says when it is asked."""
    return step.removesuffix("-more").removesuffix("-then").removesuffix("-closed")


@pytest.mark.parametrize("version", KERNELS)
def test_wrong_answer_is_never_accepted(version: str) -> None:
    """A changed answer of any step fails, with a known defect or without one; so does a step that is missing."""
    kernel, number = facts(version), Version.parse(version)
    for case in tls_cases():
        if unmet(case, kernel) is not None:
            continue
        deviant = {step: answer for row in deviations(case, number) for step, answer in row.answers.items()}
        seen = observation(case, version)
        seen["steps"] |= deviant
        assert judge_steps(case, kernel, seen, deviant).verdict is Verdict.PASS, case.id
        for step in seen["steps"]:
            wrong = {**seen, "steps": {**seen["steps"], step: "a wrong answer"}}
            assert judge_steps(case, kernel, wrong, deviant).verdict is Verdict.FAIL, (case.id, step)
            rest = {name: answer for name, answer in seen["steps"].items() if name != step}
            assert judge_steps(case, kernel, {**seen, "steps": rest}, deviant).verdict is not Verdict.PASS


def test_every_row_decides_something_on_some_kernel() -> None:
    """Every row of promises decides a case on some kernel, and every defect is in force on some."""
    rules = itertools.chain.from_iterable(steps.table("tls").rules.values())
    assert {rule.id for rule in rules if rule.outcome != steps.ABSENT} <= deciding("tls", KERNELS)
    versions = [Version.parse(version) for version in KERNELS]
    shown = {str(row) for version in versions for case in tls_cases() for row in deviations(case, version)}
    assert shown == {str(row) for row in of_group("tls")}


PLANTED: Final = (
    ("data-none-both-sockmap-tcp4", {"wire": "plain text"}),
    ("data-none-both-sockmap-tcp4", {"arrives": "0-60"}),
    ("data-msg-both-sockmap-tcp4", {"runs": "no"}),
    ("data-pop-send-sockhash-tcp6", {"arrives": "0-100"}),
    ("data-cork-both-sockmap-tcp4", {"held": "0-40"}),
    ("data-drop-both-sockmap-tcp4", {"send": "ok", "wire": "cipher text", "arrives": "0-100"}),
    ("delete-none-both-sockmap-tcp4", {"wire-closed": "cipher text"}),
    ("close-none-both-sockmap-tcp4", {"entry": "cookie"}),
    ("poll-none-both-sockmap-tcp4", {"quiet": "readable"}),
    ("end-none-both-sockmap-tcp4", {"reads": "0-100"}),
    ("other-socket-none-none-sockmap-tcp4", {"reads-then": "nothing"}),
)
"""Faults that a kernel could have: the case that must notice, and what its steps would answer."""

USUAL: Final = {
    "answer": "ok", "arrives": "0-100", "arrives-closed": "eof", "event": "readable", "quiet": "not readable",
    "quiet-then": "not readable", "reads": "0-100", "send": "ok", "shutdown": "ok", "wire": "cipher text",
    "wire-closed": "nothing", "woken": "yes",
}  # fmt: skip
"""Answers of the control."""


@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_planted_fault_fails(name: str, fault: dict[str, str]) -> None:
    """A kernel that gives keys and encrypts passes; with a fault it fails."""
    case = find(name)
    usual = {**USUAL, "reads": "0-100 eof"} if case.params["what"] == "end" else USUAL
    seen = observation(case, OLD, {**usual, **{f"{step}-then": answer for step, answer in usual.items()}})
    assert judge_steps(case, facts(OLD), seen).verdict is Verdict.PASS
    seen["steps"] |= fault
    assert judge_steps(case, facts(OLD), seen).verdict is Verdict.FAIL


def test_keys_are_refused_from_a_version_on() -> None:
    """A kernel that refuses keys too early fails, and so does one that still gives them."""
    case = find("data-none-both-sockmap-tcp4")
    assert [answers(case, version)["send-keys"] for version in (OLD, NEW)] == ["ok", "EINVAL"]
    for version, other in ((OLD, NEW), (NEW, OLD)):
        assert judge(case, facts(version), observation(case, other, USUAL)).verdict is Verdict.FAIL


def test_a_socket_without_keys_sends_plain_text() -> None:
    """Where the kernel refuses the keys, cipher text without keys would be a fault of the case."""
    for name in ("data-none-both-sockmap-tcp4", "delete-none-both-sockmap-tcp4", "end-none-both-sockmap-tcp4"):
        assert answers(find(name), NEW)["wire"] == "plain text"


@pytest.mark.parametrize(
    ("received", "text"),
    [
        ([b"\x00\x00\x00\x01"], "0-4"),
        ([b"\x00\x00\x00\x01", b"\x00\x02"], "0-6"),
        ([b"\x00\x00\x00\x01", b"\x01\x02\x01\x03"], "0-4 516-520"),
        ([b"\x01\x02\x01\x03", b"\x00\x00\x00\x01"], "516-520 0-4"),
        ([b"\xff" * 5, b"\x01\x02\x01\x03"], "5 unknown bytes 516-520"),
        ([b"\x00\x00\x00\x01", "!EBADMSG", "!EBADMSG"], "0-4 EBADMSG"),
        ([], "nothing"),
    ],
)
def test_received_bytes_are_described(received: list[bytes | str], text: str) -> None:
    """Bytes are named by their place in the stream; lost, repeated and foreign bytes show."""
    assert setup.describe_received(received, setup._OUTGOING) == text


@pytest.mark.parametrize(
    ("wire", "seen"),
    [
        (b"", "nothing"),
        (bytes((23, 3, 3)) + bytes(40), "cipher text"),
        (setup._OUTGOING[:100], "plain text"),
        (bytes((23, 3, 3)) + setup._OUTGOING[:100], "plain text and cipher text"),
        (bytes(40), "other bytes"),
    ],
)
def test_what_is_on_the_wire(wire: bytes, seen: str) -> None:
    """Plain text shows even between records."""
    assert setup._visible(wire, setup._OUTGOING[:100]) == seen
