# SPDX-License-Identifier: GPL-2.0-only
"""The live view as a pure function: the state of a run, fitted to the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from conformance.report import grid
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.report.style import WIDTH, Style
from conformance.report.text import case_lines, rule

_BAR = 24
_ANNOUNCED = 20
"""Unexpected cases shown during the run at most; the report lists them all."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Facts about a running run that its events do not have."""

    seconds: float = 0.0
    """Seconds that have passed."""
    left: float | None = None
    """Seconds remaining; None if unknown."""
    planned: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By the kernel's slug, the ids of all cases it will see."""
    running: tuple[str, float] = ("", 0.0)
    """The case that has been running for longest, and for how many seconds."""


def screen(run: Run, state: RunProgress, columns: int, rows: int, style: Style) -> list[str]:
    """Return at most `rows - 1` lines of at most `columns`: a bar for each kernel, grids as far as they fit."""
    room = max(1, rows - 1)
    bars, last = _bars(run, columns, style), [*_running(state, columns, style), _total(run, state, columns, style)]
    slug = _current(run)
    if slug is None or columns < WIDTH:
        return [*bars, *last][-room:]
    cases = run.cases[slug]
    shown, marks = grid.grids(cases, planned=state.planned.get(slug, frozenset())), grid.marks(cases)
    legend = ["", *grid.legend(marks, shown, style, unseen="not run yet")]
    whole = grid.lines(shown, marks, style)[:-1]
    bare = grid.lines([replace(each, extras={}) for each in shown], marks, style)[:-1]
    title = rule(run.kernel(slug).title, run.kernel(slug).release, style)
    own = [bars[run.slugs.index(slug)]]
    for grids, words, progress in itertools.product((whole, bare), (legend, []), (bars, own)):
        lines = [title, *grids, *words, *progress, *last]
        if len(lines) <= room:
            return lines
    return [*bars, *last][-room:]


def waiting(what: str, seconds: float, columns: int, style: Style) -> list[str]:
    """Return the screen of a run that has not begun: what it is doing, and for how long."""
    return [style.paint(style.cut(f"{_clock(seconds)}  {what}", columns), "faint")]


def announcement(run: Run, case: CaseEvent, number: int, style: Style) -> list[str]:
    """Return the lines about the `number`-th unexpected case, if it is one of the first."""
    if number <= _ANNOUNCED:
        return case_lines(run, case, style)
    return ["More cases are unexpected; the report will list them all."] if number == _ANNOUNCED + 1 else []


def verdict_of(run: Run, case: CaseEvent, style: Style) -> str:
    """Return the line of one case, with its whole id, to be pasted."""
    words = f"{run.kernel(case.kernel).title} {case.id} {case.seconds:.2f} s"
    return f"{style.paint(f'{case.verdict:5}', 'good' if case.verdict.expected else 'bad')} {style.show(words)}"


def _bars(run: Run, columns: int, style: Style) -> list[str]:
    specs = {slug: style.cut(run.kernel(slug).title, 20) for slug in run.slugs}
    wide = max(map(len, specs.values()), default=0)
    return [_bar(run, slug, f"{specs[slug]:{wide}}", columns, style) for slug in run.slugs]


def _running(state: RunProgress, columns: int, style: Style) -> list[str]:
    case, seconds = state.running
    duration = f" for {seconds:.0f} s" if seconds >= 1 else ""
    # The end of a long id distinguishes it from its neighbours.
    room = columns - len("running ") - len(duration)
    name = case if len(case) <= room else f"{style.show('…')}{case[len(case) - room + 1 :]}"
    return [style.paint(style.cut(f"running {name}{duration}", columns), "faint")] if case else []


def _total(run: Run, state: RunProgress, columns: int, style: Style) -> str:
    done, total = sum(run.counts().values()), sum(run.start.selected.values())
    left = f", about {_clock(state.left)} left" if state.left is not None and done < total else ""
    return style.paint(style.cut(f"{_clock(state.seconds)}  {done} of {total} cases{left}", columns), "faint")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _bar(run: Run, slug: str, spec: str, columns: int, style: Style) -> str:
    done, total = len(run.cases.get(slug, ())), run.start.selected.get(slug, 0)
    filled = _BAR * done // total if total else 0
    bad = len(run.unexpected(slug))
    state, colour = ("done", "good") if total and done >= total else ("", "")
    if bad:
        state, colour = f"{bad} UNEXPECTED", "bad"
    if run.kernel(slug).error:
        state, colour = "not judged", "bad"
    count = f"{done:>{len(str(total))}}/{total}"
    if len(spec) + _BAR + len(count) + len(state) + 6 > columns:
        return style.cut(f"{spec} {count} {state}", columns)
    full = style.paint(style.show("█") * filled, "fault" if bad else "good")
    empty = style.paint(style.show("░") * (_BAR - filled), "faint")
    return f"{spec}  {full}{empty}  {count}  {style.paint(state, colour)}".rstrip()


def _current(run: Run) -> str | None:
    """Choose the kernel to show: the first one running, so that the view does not jump."""
    begun = [slug for slug in run.slugs if run.cases.get(slug)]
    return next((slug for slug in begun if run.unseen(slug)), begun[-1] if begun else None)
