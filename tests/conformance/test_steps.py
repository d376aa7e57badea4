# SPDX-License-Identifier: GPL-2.0-only
"""The judge of steps: its tables, strict and right about versions, and its judgements."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.groups.insert.cases import insert_cases
from conformance.judge import steps
from conformance.judge.judge import judge
from conformance.judge.steps import StepTable, judge_steps
from conformance.model import Case, Verdict
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
    """`match.step` with `outcome` is equivalent to `answers`; the last row wins step by step."""
    table = load(
        tmp_path,
        'match = { step = ["a", "b"] }\noutcome = "ok"',
        'match = { kind = ["tcp4"] }\nanswers = { b = "EBUSY", c = "cookie" }',
    )
    assert wanted(table, UNIVERSE[0]) == {"a": "ok", "b": "EBUSY", "c": "cookie"}
    assert wanted(table, UNIVERSE[1]) == {"a": "ok", "b": "ok"}


def test_absent_takes_a_step_away(tmp_path: Path) -> None:
    """A step that is expected to be absent is not a step of the case."""
    table = load(tmp_path, 'match = {}\nanswers = { a = "ok", b = "ok" }', 'match = {}\nanswers = { b = "absent" }')
    assert wanted(table, UNIVERSE[0]) == {"a": "ok"}


def test_a_star_stands_for_every_step_not_named(tmp_path: Path) -> None:
    """`*` stands for all steps that any row of any file names, also of later rows."""
    table = load(
        tmp_path,
        'match = {}\nanswers = { a = "ok", b = "ok" }',
        'match = { kind = ["udp4"] }\nanswers = { a = "EOPNOTSUPP", "*" = "absent" }',
        'match = { kind = ["tcp4"] }\ncontrol = { c = "ok" }\nanswers = { d = "as control" }',
    )
    assert wanted(table, UNIVERSE[1]) == {"a": "EOPNOTSUPP"}
    assert wanted(table, UNIVERSE[0]) == {"a": "ok", "b": "ok", "control c": "ok", "d": "as control"}


def test_a_parameter_the_case_lacks_does_not_match(tmp_path: Path) -> None:
    """Cases of one group have different parameters; a row about one does not match a case without it."""
    table = load(tmp_path, 'match = { about = ["maps"] }\nanswers = { a = "ok" }')
    assert wanted(table, UNIVERSE[0]) == {}
    assert wanted(table, UNIVERSE[1]) == {"a": "ok"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('match = { kind = ["tcp4"] }\noutcome = "ok"', "names a list of steps"),
        ('match = { step = [] }\noutcome = "ok"', "names a list of steps"),
        ('match = { step = ["a"] }', "every step has an answer"),
        ('match = { step = ["a"] }\noutcome = ""', "every step has an answer"),
        ("match = {}\nanswers = { a = 1 }", "every step has an answer"),
        ("match = {}\nanswers = {}", "every step has an answer"),
        ('match = { step = ["a"] }\nanswers = { a = "ok" }', "stands in place of"),
        ('match = {}\nanswers = { a = "ok" }\noutcome = "ok"', "stands in place of"),
        ("match = {}\ncontrol = { a = 1 }", "every step of the control has an answer"),
        ('match = {}\ncontrol = { a = "" }', "every step has an answer"),
        ('match = {}\ncontrol = { a = "as control" }', "cannot answer as the control"),
        ('match = { step = ["a"] }\noutcome = "ok"\ncontrol = { a = "ok" }', "stands in place of"),
        ('match = { kind = ["sctp"] }\nanswers = { a = "ok" }', "unknown value 'sctp'"),
        ('match = { kind = ["udp4"], state = ["fresh"] }\nanswers = { a = "ok" }', "matches no case"),
        ('match = "all"\nanswers = { a = "ok" }', "'match' is a table"),
    ],
)
def test_a_malformed_row_is_refused(tmp_path: Path, row: str, message: str) -> None:
    """A malformed row is an error."""
    with pytest.raises(UsageError) as error:
        load(tmp_path, row)
    assert "insert-x.toml, row 1" in str(error.value)
    assert message in str(error.value)


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
    """An extra step is as wrong as a missing one or one with another answer."""
    judgement = judge_steps(CASE, facts("6.1.1"), {"steps": seen})
    assert judgement.verdict is verdict
    assert judgement.differences == ((difference,) if difference else ())


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("EAFNOSUPPORT", "this guest cannot make a socket or program that the case needs: EAFNOSUPPORT"),
        ("524", "this guest cannot make a socket or program that the case needs: 524"),
        ("this machine has too much memory", "this machine has too much memory"),
    ],
)
def test_a_skip_says_what_is_missing(answer: str, why: str) -> None:
    """An errno is explained; words explain themselves."""
    judgement = judge_steps(CASE, facts("6.1.1"), {"steps": {"available": answer}})
    assert (judgement.verdict, judgement.reason) == (Verdict.SKIP, why)


@pytest.fixture
def _controlled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = (
        'match = {}\nanswers = { insert = "ok", poll = "as control", reader = "as control" }\ncontrol = { data = "so" }'
    )
    table = load(tmp_path, row)
    monkeypatch.setattr(steps, "table", lambda group: table)


@pytest.mark.usefixtures("_controlled")
@pytest.mark.parametrize(
    ("seen", "control", "verdict", "difference"),
    [
        ({"insert": "ok", "poll": "in"}, {"data": "so", "poll": "in"}, Verdict.PASS, ""),
        ({"insert": "ok", "poll": "in"}, {"data": "so", "poll": "in", "exit": "ok"}, Verdict.PASS, ""),
        (
            {"insert": "ok", "poll": "out"},
            {"data": "so", "poll": "in"},
            Verdict.FAIL,
            "wanted poll to give in, as the control did, got out",
        ),
        (
            {"insert": "ok"},
            {"data": "so", "poll": "in"},
            Verdict.FAIL,
            "wanted poll to give in, as the control did, got no such step",
        ),
        (
            {"insert": "ok", "poll": "in", "reader": "data"},
            {"data": "so", "poll": "in"},
            Verdict.FAIL,
            "the control has no step reader, got data",
        ),
        (
            {"insert": "ok", "poll": "in"},
            {"data": "EAGAIN", "poll": "in"},
            Verdict.FAIL,
            "wanted control data to give so, got EAGAIN",
        ),
        (
            {"insert": "ok", "poll": "in"},
            {"poll": "in"},
            Verdict.FAIL,
            "wanted control data to give so, got no such step",
        ),
        ({"insert": "ok", "poll": "in"}, {"available": "EAFNOSUPPORT"}, Verdict.SKIP, ""),
        (
            {"insert": "ok", "poll": "in"},
            None,
            Verdict.INFRA,
            "the observation lacks the control, which is needed to judge poll, reader, control data",
        ),
        (
            {"insert": "EOPNOTSUPP"},
            None,
            Verdict.FAIL,
            "wanted insert to give ok, got EOPNOTSUPP",
        ),
        (
            {"insert": "ok"},
            {"poll": 1},
            Verdict.INFRA,
            "the observation is malformed: {'steps': {'insert': 'ok'}, 'control': {'poll': 1}}",
        ),
        (
            {"control data": "so"},
            {},
            Verdict.INFRA,
            "the observation is malformed: {'steps': {'control data': 'so'}, 'control': {}}",
        ),
    ],
)
def test_the_answers_of_the_control_are_expected(
    seen: dict[str, str], control: dict[str, str] | None, verdict: Verdict, difference: str
) -> None:
    """A step must answer like the control and exist if the control has it; the control is judged by its own rows."""
    observation = {"steps": seen} if control is None else {"steps": seen, "control": control}
    judgement = judge_steps(CASE, facts("6.1.1"), observation)
    assert judgement.verdict is verdict
    assert judgement.differences == ((difference,) if difference else ())


@pytest.mark.usefixtures("_controlled")
def test_a_known_defect_outranks_the_control() -> None:
    """If a known defect gives another answer than the control, the case must give that answer."""
    control = {"data": "so", "poll": "in"}
    seen = {"steps": {"insert": "ok", "poll": "out"}, "control": control}
    assert judge_steps(CASE, facts("6.1.1"), seen, {"poll": "out"}).verdict is Verdict.PASS
    sane = {"steps": {"insert": "ok", "poll": "in"}, "control": control}
    assert judge_steps(CASE, facts("6.1.1"), sane, {"poll": "out"}).verdict is Verdict.FAIL


@pytest.mark.usefixtures("_table")
def test_a_failure_shows_only_the_wrong_steps() -> None:
    """Expectation, observation and reason are those of the wrong steps."""
    judgement = judge_steps(CASE, facts("6.1.1"), {"steps": {"make": "ok", "insert": "EBUSY"}})
    assert (judgement.expected, judgement.observed) == ("insert EOPNOTSUPP", "insert EBUSY")
    assert judgement.reason == "because (since 5.10)"


def test_the_judge_hands_every_group_but_redirect_to_the_steps() -> None:
    """A real case with a real row passes through the public function."""
    case = next(case for case in insert_cases() if case.name == "sockmap-tcp4-fresh")
    seen = {"make": "ok", "state": "CLOSE", "insert": "EOPNOTSUPP"}
    assert judge(case, facts("6.12.117"), {"steps": seen}).verdict is Verdict.PASS
    assert judge(case, facts("6.12.117"), {"steps": seen | {"insert": "ok"}}).verdict is Verdict.FAIL
