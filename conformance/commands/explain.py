# SPDX-License-Identifier: GPL-2.0-only
"""`conform explain`: print what a case does, and what a kernel must answer at each step and why; boots nothing."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from common import say
from common.errors import ExitCode, UsageError
from common.program import program
from conformance.expect import words
from conformance.expect.rules import Rule
from conformance.expect.verified import OLDEST, newest_known, note, version_asked
from conformance.groups import GROUPS, cases
from conformance.groups.redirect.expectation import table
from conformance.groups.redirect.outcomes import OUTCOMES
from conformance.judge import steps
from conformance.judge.defects import Deviation, deviations
from conformance.judge.defects import about as deviations_about
from conformance.judge.needs import needs_of, unmet
from conformance.model import MAINLINE, Case, Ground, KernelFacts, first_on
from conformance.report.style import Style
from conformance.run.machine_pool import facts_of
from kernels.resolve import resolve
from kernels.version import Version

_WIDTH: Final = 80
_NAMED: Final = 3
"""Cases named in the error for a pattern that matches several, or none."""
_CONTROL: Final = "The control, in the same clone: the same scenario on sockets that were never in a map"
_COMPARED: Final = (
    "For a step that is expected `as the control`, the case must give the same answer as the control. If the control "
    "has no such step, the case must not have it. The control itself must give these answers:"
)
_REDIRECT: Final = ("socket", "attach", "insert", "redirect")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a step on one kernel, and the deciding row."""

    step: str
    answer: str
    rule: Rule


def explain(options: argparse.Namespace) -> int:
    """Print the explanation of one case."""
    case = case_named(options.case)
    facts, title = _kernel(options)
    say.put(explanation(case, facts, title, Style.of(sys.stdout)), sys.stdout)
    return int(ExitCode.OK)


def case_named(pattern: str) -> Case:
    """Return the only case that a glob matches, by id or name; UsageError names some if there are none or several."""
    every = {case.id: case for case in cases()}
    if pattern in every:
        return every[pattern]
    found = [case for case in every.values() if fnmatchcase(case.id, pattern) or fnmatchcase(case.name, pattern)]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(case.id for case in found[:_NAMED])
        raise UsageError(f"{pattern!r} matches {len(found)} cases, but explain takes one", hint=f"e.g. one of {some}")
    near = difflib.get_close_matches(pattern, every, _NAMED, 0.5)
    near = near or [every_id for every_id in every if pattern.strip("*") in every_id][:_NAMED]
    hint = f"the nearest are {', '.join(near)}" if near else "list the cases with: ./conform list"
    raise UsageError(f"there is no case {pattern!r}", hint=hint)


def _kernel(options: argparse.Namespace) -> tuple[KernelFacts, str]:
    """Return the facts about the kernel asked about, and its name."""
    if options.kernel and options.version:
        raise UsageError("--kernel and --version both name a kernel", hint="give one of them")
    if options.kernel:
        kernel = resolve(options.kernel, progress=say.note)
        return facts_of(kernel), f"{options.kernel} ({kernel.version})"
    if not options.version:
        newest = newest_known()
        return KernelFacts(newest, {}), f"{newest}, the newest kernel that the tables know"
    version = version_asked(options.version)
    return KernelFacts(version, {}), str(version)


def explanation(case: Case, facts: KernelFacts, title: str, style: Style) -> list[str]:
    """Return the whole explanation, folded to the page."""
    lines = [style.paint(case.id, "strong"), *style.wrap(words.about(case))]
    for name, value, meaning in words.values(case):
        lines += style.wrap(f"{name} `{value}`: {meaning}", first="  ", then="    ")
    lines += [*style.wrap(f"Promise: {GROUPS[case.group].promise}"), ""]
    lines += style.wrap(case.scenario, first="  scenario     ")
    lines += [*_command(case), ""]
    lines.append(style.paint(style.cut(f"Expected on {title}", _WIDTH), "strong"))
    newer = note(facts.version)
    lines += style.wrap(newer, first="  ") if newer else []
    need = unmet(case, facts)
    lines += _unasked(need, style) if need is not None else []
    lines += _steps(case, facts, style)
    lines += ["", style.paint("Known defects that the case may show", "strong"), *_defects(case, facts, style)]
    return [*lines, "", style.paint("What the case needs of a kernel", "strong"), *_needs(case, style)]


def _command(case: Case) -> list[str]:
    """Return the command that runs the case, to be copied as it stands."""
    stress = "--stress 5 --cpus 2 " if GROUPS[case.group].stress else ""
    line = f"  run it with  {program()} run {stress}--case {case.id}"
    return [line] if len(line) <= _WIDTH else [f"  run it with  {program()} run {stress}--case \\", f"    {case.id}"]


def _steps(case: Case, facts: KernelFacts, style: Style) -> Iterator[str]:
    """Yield the steps of the case, then those of its control that rows name."""
    before: set[str] = set()
    every = expected(case, facts)
    control = [answer for answer in every if steps.of_control(answer.step)]
    for answer in every:
        if answer not in control:
            yield from _step(case, answer, facts, before, style)
    if control:
        yield ""
        yield from (style.paint(line, "strong") for line in style.wrap(_CONTROL))
        yield from style.wrap(_COMPARED, first="  ")
    for answer in control:
        yield from _step(case, answer, facts, before, style)


def expected(case: Case, facts: KernelFacts) -> list[Answer]:
    """Return the answer of each step, in order; also of a step that is absent on this kernel only."""
    decided = GROUPS[case.group].decided
    if decided is not None:
        return [Answer(step, rule.outcome, rule) for step, rule in decided(case, facts)]
    deciding = steps.table(case.group).decided(case.params, facts.version)
    answers = [Answer(step, rule.outcome, rule) for step, rule in deciding.items()]
    shown = [each for each in answers if each.answer != steps.ABSENT or len(history(case, each.step)) > 1]
    return sorted(shown, key=lambda each: words.order(case.group, each.step))


def history(case: Case, step: str) -> list[tuple[Version, Answer]]:
    """Return the answers of a step and the mainline versions at which they begin; oldest first."""
    found: list[tuple[Version, Answer]] = []
    for version in _turns(case):
        answer = _answer(case, step, version)
        if answer is not None and (not found or found[-1][1].answer != answer.answer):
            found.append((version, answer))
    return found


def _answer(case: Case, step: str, version: Version) -> Answer | None:
    decided = GROUPS[case.group].decided
    if decided is not None:
        rows = dict(decided(case, KernelFacts(version, {})))
    else:
        rows = steps.table(case.group).decided(case.params, version)
    return Answer(step, rows[step].outcome, rows[step]) if step in rows else None


def _turns(case: Case) -> list[Version]:
    """Return the mainline versions at which a row about the case begins or ends."""
    if GROUPS[case.group].decided is not None:
        rules: Iterable[Rule] = (rule for name in _REDIRECT for rule in table(name).rules)
    else:
        every = (rule for rules in steps.table(case.group).rules.values() for rule in rules)
        rules = (rule for rule in every if rule.matches(case.params))
    bounds = {bound.mainline for rule in rules for bound in (rule.since, rule.until) if bound is not None}
    return sorted({OLDEST, *(version for version in bounds if version > OLDEST)})


def _unasked(need: Ground, style: Style) -> list[str]:
    return [*style.wrap(f"not run: {need.reason}", first="  "), *style.wrap(f"row {need.place}", first="    ")]


def _step(case: Case, answer: Answer, facts: KernelFacts, before: set[str], style: Style) -> list[str]:
    """Explain one step: its answer, words, reason, row, and the answers of other kernels.

    `before` holds the rows that were explained already, and grows.
    """
    ground = answer.rule.as_ground([answer.step])
    row = ground.place.removeprefix(f"groups/{case.group}/")
    again = f"(row {row}, as above)" if ground.place in before else ""
    line = style.cut(f"  {answer.step}: {_words(answer.answer)}", _WIDTH)
    lines = [style.paint(line, "strong")]
    if again and len(line) + 2 + len(again) <= _WIDTH:
        lines[0] += f"  {again}"
    elif again:
        lines += style.wrap(again, first="    ")
    lines += style.wrap(words.step_words(case.group, answer.step), first="    ")
    if answer.answer in OUTCOMES and GROUPS[case.group].decided is not None:
        lines += style.wrap(f"{answer.answer}: {OUTCOMES[answer.answer].summary}", first="    ")
    sentences = [] if again else list(_reasons(ground))
    before.add(ground.place)
    sentences += _otherwise(history(case, answer.step), answer, facts.version)
    sentences += [
        f"known defect {defect} on this kernel: {_words(defect.answers[answer.step])}"
        for defect in deviations(case, facts.version)
        if answer.step in defect.answers
    ]
    return lines + [line for sentence in sentences for line in style.wrap(sentence, first="    ", then="      ")]


def _reasons(ground: Ground) -> Iterator[str]:
    yield f"because: {ground.reason}"
    until = f", until {bound_words(ground.until)}" if ground.until else ""
    since = f"expected since {bound_words(ground.since)}{until}"
    yield "; ".join(filter(None, [f"ground: {ground.ground}", since, _commit(ground)]))
    yield f"row {ground.place}"


def _words(answer: str) -> str:
    return {steps.ABSENT: "no such step", steps.AS_CONTROL: "as the control"}.get(answer, answer)


def _otherwise(turns: Sequence[tuple[Version, Answer]], now: Answer, version: Version) -> Iterator[str]:
    """Yield the answers of other kernels, by mainline version."""
    for number, (first, answer) in enumerate(turns):
        if answer.answer == now.answer:
            continue
        last = turns[number + 1] if number + 1 < len(turns) else None
        if last is not None and last[0] <= version:
            when = f"before {bound_words(_beginning(last[1].rule, last[0]))}"
        else:
            when = f"from {bound_words(_beginning(answer.rule, first))} on"
        yield f"{when}: {_words(answer.answer)} (row {answer.rule.as_ground(()).place})"


def _beginning(rule: Rule, version: Version) -> Mapping[str, str]:
    """Return the version at which a row begins to decide, which may be the end of another row."""
    since = rule.as_ground(()).since
    return since if since[MAINLINE] == str(version) else {MAINLINE: str(version)}


def _defects(case: Case, facts: KernelFacts, style: Style) -> list[str]:
    lines: list[str] = []
    for row in deviations_about(case):
        ground = row.as_ground()
        now = "on this kernel" if row.rule.in_force(facts.version) else "not on this kernel"
        lines.append(f"  {style.paint(str(row), 'known')} ({now}{', by chance' if row.racy else ''})")
        lines += style.wrap(ground.reason, first="    ")
        for sentence in symptoms(row):
            lines += style.wrap(sentence, first="    ")
        until = f"; fixed in {bound_words(ground.until)}" if ground.until else "; not fixed"
        lines += style.wrap(f"since {bound_words(ground.since)}{until}", first="    ")
        facts_known = ", ".join(filter(None, [_commit(ground), ground.cve, ground.link]))
        lines += style.wrap(facts_known, first="    ") if facts_known else []
        lines += style.wrap(f"row {ground.place}", first="    ")
    return lines or ["  none"]


def symptoms(row: Deviation) -> Iterator[str]:
    """Yield the symptom of a defect."""
    if row.answers:
        answers = ", ".join(f"{step}: {answer}" for step, answer in row.answers.items() if answer != steps.ABSENT)
        gone = ", ".join(step for step, answer in row.answers.items() if answer == steps.ABSENT)
        yield "; ".join(filter(None, [f"symptom: {answers}" if answers else "", f"no step {gone}" if gone else ""]))
    if row.splat is not None:
        through = f", and whose call trace matches {row.chain.pattern}" if row.chain is not None else ""
        yield f"symptom: the kernel logs a report whose title matches {row.splat.pattern}{through}"
    if row.verdict is not None:
        where = f" in {row.where.pattern}" if row.where is not None else ""
        yield f"symptom: the machine ends in a {row.verdict}{where}"


def _needs(case: Case, style: Style) -> list[str]:
    lines: list[str] = []
    for need in needs_of(case):
        begin = f" from {bound_words(need.since.versions())} on" if need.since else ""
        end = f"{', and' * bool(begin)} before {bound_words(need.until.versions())}" if need.until else ""
        said = f"CONFIG_{need.symbol}" if need.symbol else "not run"
        reason = "" if need.symbol else f": {need.hazard or need.lack}"
        lines += style.wrap(f"{said}{begin}{end}{reason} (row {need.file}: {need.id})", first="  ", then="    ")
    return lines or ["  nothing but a map of sockets"]


def _commit(ground: Ground) -> str:
    return f'commit {ground.commit} "{ground.subject}"' if ground.subject else ground.commit


def bound_words(bound: Mapping[str, str]) -> str:
    """Return a bound in words: `6.4, 6.1.32 on 6.1`."""
    branches = [f"{first} on {branch}" for branch, first in bound.items() if branch != MAINLINE]
    return ", ".join([first_on(bound), *branches])
