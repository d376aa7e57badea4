# SPDX-License-Identifier: GPL-2.0-only
"""The judge of steps: its tables, strict and right about versions, and its judgements."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.expect import steps
from conformance.expect.judge import judge
from conformance.expect.steps import StepTable
from conformance.expect.steps import judge_steps
from conformance.groups.insert import insert_cases
from conformance.model import Case
from conformance.model import Verdict
from kernels.version import Version
from tests.conformance.observations import facts

UNIVERSE = [{"kind": "tcp4", "state": "fresh"}, {"kind": "udp4", "about": "maps"}]
ROW = 'commit = ""\nreason = "because"\nsince = { mainline = "5.10" }\n'
CASE = Case("insert", "x", "", {"kind": "tcp4", "state": "fresh"})


def load(tmp_path: Path, *rows: str) -> StepTable:
    """Load a table of these rows, each given the keys that all have."""
    path = tmp_path / "insert-x.toml"
    path.write_text("".join(f'[[rule]]\nid = "r{number}"\n{ROW}{row}\n' for number, row in enumerate(rows)))
    return steps.load([path], UNIVERSE)


def wanted(table: StepTable, params: dict[str, str], version: str = "6.1.1") -> dict[str, str]:
    """Return the answers a table expects."""
    return {step: rule.outcome for step, rule in table.expected(params, Version.parse(version)).items()}


def test_a_row_speaks_of_steps_with_one_outcome_or_with_an_answer_each(tmp_path: Path) -> None:
    """`match.step` with `outcome`, and `answers`, come to the same; the last row wins step by step."""
    table = load(
        tmp_path,
        'match = { step = ["a", "b"] }\noutcome = "ok"',
        'match = { kind = ["tcp4"] }\nanswers = { b = "EBUSY", c = "cookie" }',
    )
    assert wanted(table, UNIVERSE[0]) == {"a": "ok", "b": "EBUSY", "c": "cookie"}
    assert wanted(table, UNIVERSE[1]) == {"a": "ok", "b": "ok"}


def test_absent_takes_a_step_away(tmp_path: Path) -> None:
    """What is expected to be absent is no step of the case."""
    table = load(tmp_path, 'match = {}\nanswers = { a = "ok", b = "ok" }', 'match = {}\nanswers = { b = "absent" }')
    assert wanted(table, UNIVERSE[0]) == {"a": "ok"}


def test_a_parameter_the_case_lacks_does_not_match(tmp_path: Path) -> None:
    """Cases of one group have different parameters; a row about one says nothing of a case without it."""
    table = load(tmp_path, 'match = { about = ["maps"] }\nanswers = { a = "ok" }')
    assert wanted(table, UNIVERSE[0]) == {}
    assert wanted(table, UNIVERSE[1]) == {"a": "ok"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('match = { kind = ["tcp4"] }\noutcome = "ok"', "names a list of steps"),
        ('match = { step = [] }\noutcome = "ok"', "names a list of steps"),
        ('match = { step = ["a"] }', "every step has an answer"),
        ('match = { step = ["a"] }\noutcome = ""', "every step has an answer"),
        ("match = {}\nanswers = { a = 1 }", "every step has an answer"),
        ("match = {}\nanswers = {}", "every step has an answer"),
        ('match = { step = ["a"] }\nanswers = { a = "ok" }', "stands in place of"),
        ('match = {}\nanswers = { a = "ok" }\noutcome = "ok"', "stands in place of"),
        ('match = { kind = ["sctp"] }\nanswers = { a = "ok" }', "never 'sctp'"),
        ('match = { kind = ["udp4"], state = ["fresh"] }\nanswers = { a = "ok" }', "matches no case"),
        ('match = "all"\nanswers = { a = "ok" }', "'match' is a table"),
    ],
)
def test_a_malformed_row_is_refused(tmp_path: Path, row: str, complaint: str) -> None:
    """A table says what its author meant or it does not load."""
    with pytest.raises(UsageError) as error:
        load(tmp_path, row)
    assert "insert-x.toml, row 1" in str(error.value)
    assert complaint in str(error.value)


@pytest.fixture
def _table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = load(tmp_path, 'match = { kind = ["tcp4"] }\nanswers = { make = "ok", insert = "EOPNOTSUPP" }')
    monkeypatch.setattr(steps, "table", lambda group: table)


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize(
    ("seen", "verdict", "difference"),
    [
        ({"make": "ok", "insert": "EOPNOTSUPP"}, Verdict.PASS, ""),
        ({"make": "ok", "insert": "ok"}, Verdict.FAIL, "wanted insert to give EOPNOTSUPP, got ok"),
        ({"make": "ok"}, Verdict.FAIL, "wanted insert to give EOPNOTSUPP, got no such step"),
        (
            {"make": "ok", "insert": "EOPNOTSUPP", "lookup": "cookie"},
            Verdict.FAIL,
            "no expectation for step lookup, got cookie",
        ),
        ({"available": "EAFNOSUPPORT"}, Verdict.SKIP, ""),
        ({}, Verdict.INFRA, "the observation is malformed: {'steps': {}}"),
        ({"make": 0}, Verdict.INFRA, "the observation is malformed: {'steps': {'make': 0}}"),
    ],
)
def test_every_step_is_compared(seen: dict[str, str], verdict: Verdict, difference: str) -> None:
    """A step too many is as wrong as one that is missing or answers otherwise."""
    judgement = judge_steps(CASE, facts("6.1.1"), {"steps": seen})
    assert judgement.verdict is verdict
    assert judgement.differences == ((difference,) if difference else ())


@pytest.mark.usefixtures("_table")
def test_a_failure_tells_of_the_steps_that_were_wrong_only() -> None:
    """What is expected, what was observed and why are about the difference."""
    judgement = judge_steps(CASE, facts("6.1.1"), {"steps": {"make": "ok", "insert": "EBUSY"}})
    assert (judgement.expected, judgement.observed) == ("insert EOPNOTSUPP", "insert EBUSY")
    assert judgement.reason == "because (since 5.10)"


def test_the_judge_hands_every_group_but_redirect_to_the_steps() -> None:
    """A real case with a real row passes through the front door."""
    case = next(case for case in insert_cases() if case.name == "sockmap-tcp4-fresh")
    seen = {"make": "ok", "state": "CLOSE", "insert": "EOPNOTSUPP"}
    assert judge(case, facts("6.12.117"), {"steps": seen}).verdict is Verdict.PASS
    assert judge(case, facts("6.12.117"), {"steps": seen | {"insert": "ok"}}).verdict is Verdict.FAIL
