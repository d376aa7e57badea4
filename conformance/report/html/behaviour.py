# SPDX-License-Identifier: GPL-2.0-only
"""Group the cases that gave the same answers on every kernel: one row for hundreds of cases, none left out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from conformance.expect.words import step_words
from conformance.groups import GROUPS
from conformance.groups import cases as catalogue
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.report.html.names import Part, labels

COMPARED = 12
"""Kernels that can be compared with each other at most: the style rules grow with their square."""
Judged = Mapping[str, CaseEvent]
"""One case by the slug of the kernel it was put to."""


@dataclass(frozen=True, slots=True)
class CaseAnswer:
    """A case's answer without its logs."""

    verdict: Verdict
    expected: str
    observed: str
    reason: str
    deviation: str


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """An answer, and the kernels that gave it."""

    slugs: tuple[str, ...]
    share: int
    """The number of cases with this answer, on each of these kernels."""
    answer: CaseAnswer


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Cases that gave the same answers on every kernel."""

    cases: tuple[Judged, ...]
    answers: tuple[SharedAnswer, ...]
    changes: str
    """The pairs of kernels, as `pair` names them, between which an answer changes; `-` for other kernels."""

    @property
    def first(self) -> CaseEvent:
        """The example case, on the last kernel that was asked; an unexpected one if there is one."""
        events = [event for case in self.cases for event in case.values()]
        return next((event for event in events if not event.verdict.expected), list(self.cases[0].values())[-1])


@dataclass(frozen=True, slots=True)
class TableRow:
    """A behaviour in a table."""

    label: list[list[Part]]
    cells: tuple[tuple[str, str], ...]
    """For each kernel the verdict, or nothing if it was not asked, and what distinguishes it from the others."""
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class CaseTable:
    """The rows of one question."""

    title: str
    params: tuple[str, ...]
    """The parameters that vary."""
    rows: tuple[TableRow, ...]

    @property
    def size(self) -> int:
        """The number of cases."""
        return sum(len(row.behaviour.cases) for row in self.rows)


def pair(one: int, other: int) -> str:
    """Name two kernels, given by their numbers in any order, below COMPARED."""
    return "".join(chr(ord("a") + each) for each in sorted((one, other)))


def gather(run: Run) -> dict[str, dict[str, CaseEvent]]:
    """Return every case by id and slug, in the catalogue's order; an unexpected verdict outranks an expected one."""
    found: dict[str, dict[str, CaseEvent]] = {}
    for slug in run.slugs:
        for case in run.cases.get(slug, ()):
            kernels = found.setdefault(case.id, {})
            if slug not in kernels or kernels[slug].verdict.expected:
                kernels[slug] = case
    return dict(sorted(found.items(), key=lambda item: (_rank().get(item[0], len(_rank())), item[0])))


def behaviours(cases: Iterable[Judged], slugs: Sequence[str]) -> list[Behaviour]:
    """Group the cases that gave the same answers on every kernel, in the order of their first."""
    alike: dict[tuple[tuple[str, CaseAnswer], ...], list[Judged]] = {}
    for case in cases:
        alike.setdefault(tuple((slug, _answer(event)) for slug, event in case.items()), []).append(case)
    return [together(members, slugs) for members in alike.values()]


def together(cases: Sequence[Judged], slugs: Sequence[str]) -> Behaviour:
    """Put cases into one behaviour, whether their answers are the same or not."""
    answers: dict[tuple[CaseAnswer, int], list[str]] = {}
    for slug in slugs:
        for answer, share in Counter(_answer(case[slug]) for case in cases if slug in case).items():
            answers.setdefault((answer, share), []).append(slug)
    seen = [frozenset(_change(case[slug]) for case in cases if slug in case) for slug in slugs]
    shared = tuple(SharedAnswer(tuple(kernels), share, answer) for (answer, share), kernels in answers.items())
    return Behaviour(tuple(cases), shared, _changes(seen))


def differing(cases: Iterable[Judged], slugs: Sequence[str]) -> Iterator[tuple[str, str, str, int]]:
    """Yield the name of each pair of kernels, the two, and the number of cases that differ between them."""
    slugs = slugs[:COMPARED]
    seen = Counter(tuple(_change(case[slug]) if slug in case else None for slug in slugs) for case in cases)
    for one, other in itertools.combinations(range(len(slugs)), 2):
        count = sum(number for each, number in seen.items() if each[one] != each[other])
        yield pair(one, other), slugs[one], slugs[other], count


def tables(cases: Mapping[str, Judged], slugs: Sequence[str]) -> Iterator[tuple[str, list[CaseTable]]]:
    """Yield each group with its tables, one for each question and set of parameters."""
    questions: dict[str, dict[tuple[str, tuple[str, ...]], list[Judged]]] = {}
    for case in cases.values():
        event = next(iter(case.values()))
        key = next(iter(event.params.values()), ""), tuple(event.params)
        questions.setdefault(event.group, {}).setdefault(key, []).append(case)
    known = [*(group for group in GROUPS if group in questions), *sorted(questions.keys() - GROUPS.keys())]
    for group in known:
        yield group, [_table(title, members, slugs) for (title, _), members in questions[group].items()]


def _table(title: str, cases: Sequence[Judged], slugs: Sequence[str]) -> CaseTable:
    every = [_params(case) for case in cases]
    values = {name: list(dict.fromkeys(params[name] for params in every)) for name in every[0]}
    among = {name: found for name, found in values.items() if len(found) > 1}
    rows = (
        TableRow(labels(map(_params, each.cases), among), tuple(_cells(each, slugs)), each)
        for each in behaviours(cases, slugs)
    )
    return CaseTable(title, tuple(among), tuple(rows))


def steps_in_words(cases: Iterable[Judged]) -> dict[str, dict[str, str]]:
    """Return the words of the steps of some cases, by group."""
    found: dict[str, dict[str, str]] = {}
    asked = {(event.group, step): None for case in cases for event in case.values() for step in _observed(event)}
    for group, step in asked:
        if words := step_words(group, step):
            found.setdefault(group, {})[step] = words
    return found


def _observed(case: CaseEvent) -> Mapping[str, str]:
    """Return the observed answers, step by step; nothing for a group without steps."""
    steps = (case.observation or {}).get("steps")
    return {str(step): str(answer) for step, answer in steps.items()} if isinstance(steps, Mapping) else {}


def answers_of(cases: Iterable[Judged]) -> set[str]:
    """Return every answer that a step gave."""
    return {answer for case in cases for event in case.values() for answer in _observed(event).values()}


def _cells(behaviour: Behaviour, slugs: Sequence[str]) -> Iterator[tuple[str, str]]:
    case = behaviour.cases[0]
    steps = {slug: _steps(event) for slug, event in case.items()}
    shown_steps = _distinguishing_steps(list(steps.values()))
    for slug in slugs:
        if slug not in case:
            yield "", ""
            continue
        words = ", ".join(f"{each} {steps[slug].get(each, '–')}".strip() for each in shown_steps)  # noqa: RUF001
        yield str(case[slug].verdict), words


def _distinguishing_steps(answers: Sequence[Mapping[str, str]]) -> list[str]:
    """Choose steps, in order, until all different answers differ in at least one of them."""
    chosen: list[str] = []
    apart = 1
    for step in dict.fromkeys(itertools.chain.from_iterable(answers)):
        found = len({tuple(answer.get(each) for each in (*chosen, step)) for answer in answers})
        if found > apart:
            chosen.append(step)
            apart = found
    return chosen


def _steps(case: CaseEvent) -> Mapping[str, str]:
    """Return the observed answers step by step, for a group with steps."""
    steps = _observed(case)
    if steps and case.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.XPASS):
        return steps
    return {"": case.observed or str(case.verdict)}


def _answer(case: CaseEvent) -> CaseAnswer:
    return CaseAnswer(case.verdict, case.expected, case.observed, case.reason, case.deviation)


def _change(case: CaseEvent) -> tuple[Verdict, str]:
    """Return the part of a result that counts as a change between two kernels: the reason does not."""
    return case.verdict, case.observed


def _changes(seen: Sequence[object]) -> str:
    pairs = itertools.combinations(range(min(len(seen), COMPARED)), 2)
    changed = " ".join(pair(one, other) for one, other in pairs if seen[one] != seen[other])
    return changed or ("-" if len(set(seen)) > 1 else "")


def _params(case: Judged) -> Mapping[str, str]:
    event = next(iter(case.values()))
    return event.params or {"name": event.name}


@cache
def _rank() -> Mapping[str, int]:
    return {case.id: number for number, case in enumerate(catalogue())}
