# SPDX-License-Identifier: GPL-2.0-only
"""The judge of every group whose observation is a list of steps, each with a short answer.

The scenario returns `{"steps": {name: answer, ...}}`. The expectations are in `GROUP/promises.toml` and, where one
file would be too long, `GROUP/promises-PART.toml`, read in the order of their names as if they were one file. Rows are
those of rules.py, with three differences:

- `match` must name a `step`, and `outcome` is the answer, word for word;
- in place of both, `answers` may give the answers of several steps: `{ insert = "ok", lookup = "cookie" }`;
- the answer `absent` says that the step must not be there;
- the answer `as control` says that the step answers what it answered of the control: the scenario then returns
  `{"steps": {...}, "control": {...}}`, where `control` is the same scenario on sockets that were never in a map;
- `control` gives the answers of several steps of the control, for what even a control must get right;
- the step `*` stands for every step that any row of the group names, and this row does not.

So the steps of a case are those for which a row matches and is in force, and no list of them is kept anywhere else: a
step that no row speaks of is as wrong as one that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from common.errors import ConformError
from conformance.expect.rules import CONTRACT, CONTROL, Params, Rule, bad, grounds_of, name_of, read_rows, read_rule
from conformance.expect.verified import note
from conformance.groups import GROUPS
from conformance.groups.group import Families
from conformance.groups.kinds import FAMILIES
from conformance.model import Case, Judgement, KernelFacts, Observation, Verdict
from kernels.version import Version

HERE: Final = Path(__file__).parents[1] / "groups"

ABSENT: Final = "absent"
"""The answer of a step that must not be there."""
AVAILABLE: Final = "available"
"""The only step of a case that could not run: its answer is the errno, or says in words why."""
AS_CONTROL: Final = "as control"
"""The expected answer of a step that must answer like the same step of the control."""
OF_CONTROL: Final = "control "
"""The prefix of a step of the control in rows."""
_EVERY: Final = "*"
_ERRNO: Final = re.compile(r"E[A-Z0-9]+|\d+")
"""An errno, by its name or its number."""


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """The rows of one group, by step, in the order they are read."""

    rules: Mapping[str, tuple[Rule, ...]]

    def expected(self, params: Params, version: Version) -> dict[str, Rule]:
        """Return the row that decides each step a case with these parameters has on this kernel."""
        return {step: rule for step, rule in self.decided(params, version).items() if rule.outcome != ABSENT}

    def decided(self, params: Params, version: Version) -> dict[str, Rule]:
        """Return the row that decides each step, steps that must be absent included."""
        found = {
            step: next((rule for rule in rules if rule.matches(params)), None)
            for step, rules in _in_force(self, version).items()
        }
        return {step: rule for step, rule in found.items() if rule is not None}


@lru_cache(maxsize=256)
def _in_force(table: StepTable, version: Version) -> dict[str, tuple[Rule, ...]]:
    """List the rows in force by step, the deciding one first."""
    return {
        step: tuple(rule for rule in reversed(rules) if rule.in_force(version)) for step, rules in table.rules.items()
    }


def judge_steps(
    case: Case, facts: KernelFacts, observation: Observation, deviant: Mapping[str, str] = MappingProxyType({})
) -> Judgement:
    """Compare each step with its row, or with a known defect's answer; never raises: what is unreadable is `infra`."""
    try:
        wanted = table(case.group).expected(case.params, facts.version)
    except ConformError as error:
        return Judgement(Verdict.INFRA, "unknown", "", f"{error}; {error.hint}", (f"no expectation: {error}",))
    expected = {**{step: rule.outcome for step, rule in wanted.items()}, **deviant}
    every = grounds_of(wanted.items())
    for part in ("steps", "control"):
        seen = observation.get(part)
        if _is_texts(seen) and set(seen) == {AVAILABLE}:
            missing = _ERRNO.fullmatch(seen[AVAILABLE]) is not None
            why = (
                f"this guest cannot make a socket or program that the case needs: {seen[AVAILABLE]}"
                if missing
                else seen[AVAILABLE]
            )
            return Judgement(Verdict.SKIP, _summary(expected), _summary(seen), why)
    if flaw := _flaw(observation, expected):
        why = _because(wanted.values(), facts)
        return Judgement(Verdict.INFRA, _summary(expected), "", why, (flaw,), grounds=every)
    wrong = _wrong(observation, expected)
    expected, seen = _compared(expected, observation["steps"], observation.get("control", {}))
    if not wrong:
        answered = _summary(observation["steps"])
        return Judgement(Verdict.PASS, answered, answered, _because(wanted.values(), facts), grounds=every)
    concerned = {step: wanted[step] for step in wrong if step in wanted}
    return Judgement(
        verdict=Verdict.FAIL,
        expected=_summary({step: expected.get(step, "nothing") for step in wrong}),
        observed=_summary({step: seen.get(step, "nothing") for step in wrong}),
        reason=_because(concerned.values(), facts) or f"no row of {case.group} names {', '.join(wrong)}",
        differences=tuple(_differences(wrong, expected, seen, wanted)),
        grounds=grounds_of(concerned.items()),
    )


def _flaw(observation: Observation, expected: Mapping[str, str]) -> str:
    """Say why an observation cannot be judged; empty if it can."""
    seen, control = observation.get("steps"), observation.get("control", {})
    strange = set(observation) - {"steps", "control"}
    if strange or not _is_texts(seen) or not _is_texts(control) or not seen or any(map(of_control, seen)):
        return f"the observation is malformed: {observation!r:.200}"
    # A guest whose first call fails asks no control. That call is wrong, whatever the control would have answered.
    if (lacking := _lacking(observation, expected)) and not _wrong(observation, expected):
        return f"the observation lacks the control, which is needed to judge {', '.join(lacking)}"
    return ""


def _lacking(observation: Observation, expected: Mapping[str, str]) -> list[str]:
    """Return the steps that nobody can judge, because the observation has no control."""
    if "control" in observation:
        return []
    return [step for step, answer in expected.items() if answer == AS_CONTROL or of_control(step)]


def _wrong(observation: Observation, expected: Mapping[str, str]) -> list[str]:
    """Return the steps whose answer is wrong, of those that can be judged."""
    lacking = _lacking(observation, expected)
    wanted, seen = _compared(expected, observation["steps"], observation.get("control", {}))
    different = (step for step in dict.fromkeys((*seen, *wanted)) if seen.get(step) != wanted.get(step))
    return [step for step in different if step not in lacking]


def _compared(
    expected: Mapping[str, str], steps: Mapping[str, str], control: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return expected and seen answers, step by step, given the answers of the control.

    Of the control itself only steps that a row names are judged.
    """
    wanted = {step: control.get(step, ABSENT) if answer == AS_CONTROL else answer for step, answer in expected.items()}
    own = {f"{OF_CONTROL}{step}": answer for step, answer in control.items()}
    seen = {**steps, **{step: answer for step, answer in own.items() if step in wanted}}
    return {step: answer for step, answer in wanted.items() if answer != ABSENT}, seen


def of_control(step: str) -> bool:
    """Whether rows call a step of the control so."""
    return step.startswith(OF_CONTROL)


@cache
def table(group: str) -> StepTable:
    """Load the rows of a group; UsageError names the file and the wrong row."""
    subject = GROUPS[group]
    return load(files(group), [case.params for case in subject.cases()], subject.families, subject.ground)


def files(group: str) -> list[Path]:
    """List the files about a group, in the order they are read."""
    return sorted((HERE / group).glob("promises*.toml"))


def load(
    paths: Iterable[Path], universe: Sequence[Params], families: Families = FAMILIES, ground: str = CONTRACT
) -> StepTable:
    """Read files of rows about cases with the parameters in `universe`.

    An expectation `as control` has the ground `control`, whatever its row says.
    """
    read = []
    for path in paths:
        for where, row in read_rows(path, "rule"):
            answers, rest = _split(where, row)
            read.append((answers, read_rule(where, rest, universe, None, families, name_of(path), ground)))
    every = dict.fromkeys(step for answers, _ in read for step in answers if step != _EVERY)
    rules: dict[str, tuple[Rule, ...]] = {}
    for answers, rule in read:
        rest = dict.fromkeys(every, answers[_EVERY]) if _EVERY in answers else {}
        for step, answer in {**rest, **answers}.items():
            if step != _EVERY:
                why = CONTROL if answer == AS_CONTROL else rule.ground
                rules[step] = (*rules.get(step, ()), replace(rule, outcome=answer, ground=why))
    return StepTable(rules)


def _split(where: str, row: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Split a row: the answers of its steps, and its other keys, with any one answer as outcome."""
    match = row.get("match")
    if not isinstance(match, dict):
        raise bad(where, f"'match' is a table, not {match!r}")
    steps = match.get("step")
    answers: Any = row.get("answers")
    control: Any = row.get("control", {})
    if (answers is not None or control) and (steps is not None or "outcome" in row):
        raise bad(where, "'answers' stands in place of 'outcome' and the steps in 'match'")
    if not _is_texts(control):
        raise bad(where, f"every step of the control has an answer, not {control!r}")
    if answers is None and not control:
        if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
            raise bad(where, f"'match' names a list of steps, not {steps!r}")
        answers = dict.fromkeys(steps, row.get("outcome"))
    answers = answers if answers is not None else {}
    if not _is_texts(answers) or not (answers or control) or not all((*answers.values(), *control.values())):
        raise bad(where, f"every step has an answer, not {answers!r}")
    if AS_CONTROL in control.values():
        raise bad(where, "a step of the control cannot answer as the control")
    named = {**answers, **{f"{OF_CONTROL}{step}": answer for step, answer in control.items()}}
    rest = {key: value for key, value in row.items() if key not in ("answers", "control")}
    rest["match"] = {name: values for name, values in match.items() if name != "step"}
    rest["outcome"] = next(iter(named.values()))
    return named, rest


def _differences(
    wrong: Iterable[str], expected: Mapping[str, str], seen: Mapping[str, str], wanted: Mapping[str, Rule]
) -> Iterator[str]:
    for step in wrong:
        as_control = step in wanted and wanted[step].outcome == AS_CONTROL
        if step not in expected:
            yield f"{'the control has no' if as_control else 'no expectation for'} step {step}, got {seen[step]}"
        else:
            answer = f"{expected[step]}, as the control did" if as_control else expected[step]
            yield f"wanted {step} to give {answer}, got {seen.get(step, 'no such step')}"


def _summary(answers: Mapping[str, str]) -> str:
    return ", ".join(f"{step} {answer}" for step, answer in answers.items())


def _because(rules: Iterable[Rule], facts: KernelFacts) -> str:
    reasons = [rule.because(facts.version) for rule in rules]
    return "; ".join(filter(None, dict.fromkeys((*reasons, note(facts.version) if reasons else ""))))


def _is_texts(value: Any) -> TypeGuard[Mapping[str, str]]:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in (*value, *value.values()))
