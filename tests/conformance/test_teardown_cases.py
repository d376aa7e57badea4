# SPDX-License-Identifier: GPL-2.0-only
"""The teardown cases: they are all there, the tables answer each, and no wrong answer would pass."""

from __future__ import annotations

import ast
import itertools
import tomllib
from pathlib import Path

import pytest

from conformance.groups.kinds import KINDS, MAPS
from conformance.groups.teardown import cases as teardown
from conformance.groups.teardown.cases import teardown_cases
from conformance.judge import defects as known
from conformance.judge import steps
from conformance.judge.defects import deviations
from conformance.judge.needs import unmet
from conformance.judge.steps import judge_steps
from conformance.model import Verdict
from kernels.version import Version
from tests.conformance.expectations import answers, deciding, observation, without_commit
from tests.conformance.observations import facts

KERNELS = ("5.10.262", "6.1.192", "6.12.117", "6.18.15", "6.18.44", "7.3.4")


def names_in(file: str, table: str) -> set[str]:
    """Return the keys of a guest table by parsing it: importing needs built programs."""
    source = Path(teardown.__file__).parents[2].joinpath(file).read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table and isinstance(node.value, ast.Dict):
            return {str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)}
    raise AssertionError(f"{file} has no table {table}")


def test_every_way_out_is_asked() -> None:
    """Every way out has a case for each possible kind, role and data state that is not folded away."""
    cases = teardown_cases()
    # Two ways are in `leaks` only: one repeats others, and one leaves no socket to look at.
    ways = names_in("guestlib/ways_out.py", "WAYS") - {"in_flight_to_itself", "shutdown"}
    assert {case.params["exit"] for case in cases} == ways
    assert {case.params["data"] for case in cases} == names_in("groups/teardown/guest/data.py", "DATA")
    assert len({case.id for case in cases}) == len(cases)
    asked = {tuple(case.params[name] for name in ("exit", "kind", "role", "program", "data")) for case in cases}
    few = {way: parts for ways, parts in teardown._FEW.items() for way in ways}
    for way in ways:
        for part, states in few.get(way, teardown.STATES).items():
            for kind, data in itertools.product(KINDS, states):
                twins = teardown._OTHER_TWINS if way in few else KINDS if data == "none" else teardown._ONE_OF_TWINS
                wanted = kind in twins and teardown.possible(way, kind, part, data)
                assert ((way, kind, *teardown.PARTS[part], data) in asked) == wanted, (way, kind, part, data)


def test_folded_combinations_are_asked_by_another_case() -> None:
    """Every kind, type of map, role and data state is asked for every real way out, where it is possible."""
    asked = {tuple(case.params[name] for name in ("exit", "kind", "map")) for case in teardown_cases()}
    assert {(way, kind, map_) for way in teardown.OUT for kind in KINDS for map_ in MAPS} <= asked
    for way in teardown.OUT:
        for part, states in teardown.STATES.items():
            for data in states:
                some = any(teardown.possible(way, kind, part, data) for kind in KINDS)
                role, program = teardown.PARTS[part]
                wanted = {"exit": way, "role": role, "program": program, "data": data}
                assert some == any(wanted.items() <= case.params.items() for case in teardown_cases()), wanted


@pytest.mark.parametrize("version", KERNELS)
def test_every_case_has_expectations(version: str) -> None:
    """The tables decide each case on every kernel."""
    kernel = facts(version)
    asked = [case for case in teardown_cases() if unmet(case, kernel) is None]
    assert not [case.id for case in asked if not answers(case, version).get("insert")]


def test_every_row_decides_something_on_some_kernel() -> None:
    """Every row decides a case on some kernel that was run."""
    rules = itertools.chain.from_iterable(steps.table("teardown").rules.values())
    assert {rule.id for rule in rules if rule.outcome != steps.ABSENT} == deciding("teardown", KERNELS)


@pytest.mark.parametrize("version", KERNELS)
def test_defects_differ_from_the_promises(version: str) -> None:
    """No row about a known defect names an answer that is expected anyway, or contradicts another row."""
    for case in teardown_cases():
        sane = answers(case, version)
        rows = deviations(case, Version.parse(version))
        deviant = [item for row in rows for item in row.answers.items()]
        assert not [item for item in deviant if sane.get(item[0], steps.ABSENT) == item[1]], case.id
        assert len(dict(deviant)) == len(set(deviant)), case.id


def test_what_depends_on_the_version_cites_a_commit_with_its_subject() -> None:
    """A version-dependent row without a commit cannot be checked."""
    paths = [*steps.files("teardown"), *known.files("teardown")]
    rows = [row for path in paths for row in next(iter(tomllib.loads(path.read_text()).values()))]
    ended = [row for row in rows if "until" in row]
    assert ended
    assert without_commit(ended) == []


@pytest.mark.parametrize("version", ["5.10.262", "7.3.4"])
def test_no_wrong_answer_passes(version: str) -> None:
    """A case fails if any expected answer is changed or missing; one case in seven is tried."""
    kernel = facts(version)
    for case in teardown_cases()[::7]:
        sane = observation(case, version)
        seen = sane["steps"]
        assert judge_steps(case, kernel, sane).verdict is Verdict.PASS, case.id
        for step in seen:
            flipped = sane | {"steps": seen | {step: "something else"}}
            assert judge_steps(case, kernel, flipped).verdict is Verdict.FAIL, (case.id, step)
            missing = sane | {"steps": {name: answer for name, answer in seen.items() if name != step}}
            assert len(seen) == 1 or judge_steps(case, kernel, missing).verdict is Verdict.FAIL, (case.id, step)


@pytest.mark.parametrize("version", ["5.10.262", "7.3.4"])
def test_no_control_is_believed_whatever_it_answers(version: str) -> None:
    """A control that is skipped, that answers `ok` to everything or that loses data makes a case fail."""
    kernel = facts(version)
    asked = [case for case in teardown_cases()[::7] if unmet(case, kernel) is None]
    for case in asked:
        sane = observation(case, version)
        if "control" not in sane:
            assert sane["steps"] == {"insert": "EOPNOTSUPP"}
            continue
        skipped = {"steps": sane["steps"]}
        assert judge_steps(case, kernel, skipped).verdict is Verdict.INFRA, case.id
        for control in ({}, dict.fromkeys(sane["control"], "ok")):
            assert judge_steps(case, kernel, sane | {"control": control}).verdict is Verdict.FAIL, case.id
        for step, answer in answers(case, version).items():
            if step.startswith(steps.OF_CONTROL):
                worse = sane["control"] | {step.removeprefix(steps.OF_CONTROL): f"not {answer}"}
                assert judge_steps(case, kernel, sane | {"control": worse}).verdict is Verdict.FAIL, (case.id, step)
