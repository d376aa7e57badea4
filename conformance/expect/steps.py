# SPDX-License-Identifier: GPL-2.0-only
"""The judge of every group whose observation is a list of steps, each with a short answer.

The scenario returns `{"steps": {name: answer, ...}}`. What is expected is in `stepwise/GROUP.toml` and, where one
file would be too long, `stepwise/GROUP-PART.toml`, read in the order of their names as if they were one file. Rows are
those of rules.py, with three differences:

- `match` must name a `step`, and `outcome` is the answer, word for word;
- in place of both, `answers` may say what each of several steps answers: `{ insert = "ok", lookup = "cookie" }`;
- the answer `absent` says that the step must not be there.

So the steps of a case are those for which a row matches and is in force, and no list of them is kept anywhere else: a
step that no row speaks of is as wrong as one that is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import cache
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from typing import Final
from typing import TypeGuard

from common.errors import ConformError
from conformance.catalogue import FAMILIES
from conformance.expect.expectation import note
from conformance.expect.rules import Params
from conformance.expect.rules import Rule
from conformance.expect.rules import bad
from conformance.expect.rules import read_rows
from conformance.expect.rules import read_rule
from conformance.groups import GROUPS
from conformance.model import Case
from conformance.model import Judgement
from conformance.model import KernelFacts
from conformance.model import Observation
from conformance.model import Verdict
from kernels.version import Version

HERE: Final = Path(__file__).with_name("stepwise")

ABSENT: Final = "absent"
"""The answer of a step that must not be there."""
AVAILABLE: Final = "available"
"""The only step of a case that could not be asked, for lack of a module perhaps; its answer is the errno."""


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """The rows of one group, by the step they speak of, in the order they are read."""

    rules: Mapping[str, tuple[Rule, ...]]

    def expected(self, params: Params, version: Version) -> dict[str, Rule]:
        """Return the row that decides each step a case with these parameters has on this kernel."""
        found = {
            step: next((rule for rule in rules if rule.matches(params)), None)
            for step, rules in _in_force(self, version).items()
        }
        return {step: rule for step, rule in found.items() if rule is not None and rule.outcome != ABSENT}


@lru_cache(maxsize=256)
def _in_force(table: StepTable, version: Version) -> dict[str, tuple[Rule, ...]]:
    """List the rows in force by step, the one that wins first."""
    return {
        step: tuple(rule for rule in reversed(rules) if rule.in_force(version)) for step, rules in table.rules.items()
    }


def judge_steps(
    case: Case, facts: KernelFacts, observation: Observation, deviant: Mapping[str, str] = MappingProxyType({})
) -> Judgement:
    """Compare every step with its row, or with its deviant answer; never raises: what cannot be judged is `infra`."""
    try:
        wanted = table(case.group).expected(case.params, facts.version)
    except ConformError as error:
        return Judgement(Verdict.INFRA, "unknown", "", f"{error}; {error.hint}", (f"no expectation: {error}",))
    expected = {**{step: rule.outcome for step, rule in wanted.items()}, **deviant}
    expected = {step: answer for step, answer in expected.items() if answer != ABSENT}
    seen = observation.get("steps")
    if _is_texts(seen) and set(seen) == {AVAILABLE}:
        why = f"this guest has no such socket or program: {seen[AVAILABLE]}"
        return Judgement(Verdict.SKIP, _summary(expected), _summary(seen), why)
    if set(observation) != {"steps"} or not _is_texts(seen) or not seen:
        malformed = (f"the observation is malformed: {observation!r:.200}",)
        return Judgement(Verdict.INFRA, _summary(expected), "", _because(wanted.values(), facts), malformed)
    wrong = [step for step in dict.fromkeys((*seen, *expected)) if seen.get(step) != expected.get(step)]
    if not wrong:
        return Judgement(Verdict.PASS, _summary(seen), _summary(seen), _because(wanted.values(), facts))
    grounds = [wanted[step] for step in wrong if step in wanted]
    return Judgement(
        verdict=Verdict.FAIL,
        expected=_summary({step: expected.get(step, "nothing") for step in wrong}),
        observed=_summary({step: seen.get(step, "nothing") for step in wrong}),
        reason=_because(grounds, facts) or f"no row of {case.group} speaks of {', '.join(wrong)}",
        differences=tuple(_differences(wrong, expected, seen)),
    )


@cache
def table(group: str) -> StepTable:
    """Load the rows of a group; UsageError names file and row of what is wrong with them."""
    paths = [path for path in sorted(HERE.glob(f"{group}*.toml")) if path.stem.partition("-")[0] == group]
    return load(paths, [case.params for case in GROUPS[group]()])


def load(paths: Iterable[Path], universe: Sequence[Params]) -> StepTable:
    """Read files of rows about cases with the parameters in `universe`."""
    rules: dict[str, tuple[Rule, ...]] = {}
    for path in paths:
        for where, row in read_rows(path, "rule"):
            answers, rest = _split(where, row)
            rule = read_rule(where, rest, universe, None, FAMILIES)
            for step, answer in answers.items():
                rules[step] = (*rules.get(step, ()), replace(rule, outcome=answer))
    return StepTable(rules)


def _split(where: str, row: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Take a row apart: the answer of each step it speaks of, and what is left, with any one of them as outcome."""
    match = row.get("match")
    if not isinstance(match, dict):
        raise bad(where, f"'match' is a table, not {match!r}")
    steps = match.get("step")
    answers: Any = row.get("answers")
    if answers is not None and (steps is not None or "outcome" in row):
        raise bad(where, "'answers' stands in place of 'outcome' and the steps in 'match'")
    if answers is None:
        if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
            raise bad(where, f"'match' names a list of steps, not {steps!r}")
        answers = dict.fromkeys(steps, row.get("outcome"))
    if not answers or not _is_texts(answers) or not all(answers.values()):
        raise bad(where, f"every step has an answer, not {answers!r}")
    rest = {key: value for key, value in row.items() if key != "answers"}
    rest["match"] = {name: values for name, values in match.items() if name != "step"}
    rest["outcome"] = next(iter(answers.values()))
    return dict(answers), rest


def _differences(wrong: Iterable[str], expected: Mapping[str, str], seen: Mapping[str, str]) -> Iterator[str]:
    for step in wrong:
        if step not in expected:
            yield f"no expectation for step {step}, got {seen[step]}"
        elif step not in seen:
            yield f"wanted {step} to give {expected[step]}, got no such step"
        else:
            yield f"wanted {step} to give {expected[step]}, got {seen[step]}"


def _summary(answers: Mapping[str, str]) -> str:
    return ", ".join(f"{step} {answer}" for step, answer in answers.items())


def _because(rules: Iterable[Rule], facts: KernelFacts) -> str:
    reasons = [rule.because(facts.version) for rule in rules]
    return "; ".join(filter(None, dict.fromkeys((*reasons, note(facts.version) if reasons else ""))))


def _is_texts(value: Any) -> TypeGuard[Mapping[str, str]]:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in (*value, *value.values()))
