# SPDX-License-Identifier: GPL-2.0-only
"""What bears witness to the cases that somebody will want to look into, as much of it as a page can carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from conformance.judge.klog import is_header
from conformance.model import LogLine, Verdict
from conformance.report.events import CaseEvent
from conformance.report.findings import alike

_GRAVEST = (
    Verdict.PANIC,
    Verdict.SPLAT,
    Verdict.HANG,
    Verdict.LOST,
    Verdict.FAIL,
    Verdict.XPASS,
    Verdict.INFRA,
    Verdict.XFAIL,
    Verdict.PASS,
    Verdict.SKIP,
)
_ROOM = 500_000
"""Characters of evidence in a page, so that a kernel on which everything fails still makes one that opens."""
_NAMES = 2_000
"""Of the cases for which there is no room, so many are named; the tables have them all."""
_LINES = 160
"""Of one log."""
_BEFORE = 12
"""Of these, before the first sign of trouble."""


@dataclass(frozen=True, slots=True)
class Text:
    """A log, or a part of it."""

    source: str
    lines: tuple[tuple[str, bool], ...]
    """Each with whether it is a sign of trouble."""
    above: int = 0
    """Lines left out above."""
    below: int = 0
    """Lines left out below."""
    same: CaseEvent | None = None
    """A case that has the same text; then there are no lines."""


@dataclass(frozen=True, slots=True)
class Drawer:
    """One case on one kernel."""

    case: CaseEvent
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Cases of one kernel that differ in nothing but their name."""

    first: CaseEvent
    drawers: tuple[Drawer, ...]
    named: tuple[CaseEvent, ...] = ()
    """Some for which the page has no room."""
    more: int = 0
    """How many there are beside these."""

    @property
    def cases(self) -> tuple[CaseEvent, ...]:
        """Those that are told one by one."""
        return (*(drawer.case for drawer in self.drawers), *self.named)


class Witness:
    """Opens drawers as long as there is room in the page."""

    def __init__(self) -> None:
        self._room, self._names = _ROOM, _NAMES
        self._seen: dict[tuple[str, ...], CaseEvent] = {}

    def findings(self, cases: Iterable[CaseEvent]) -> list[Finding]:
        """Return the cases, those that are alike together, the gravest first."""
        return [
            self._finding(group) for group in sorted(alike(cases), key=lambda group: _GRAVEST.index(group[0].verdict))
        ]

    def _finding(self, group: list[CaseEvent]) -> Finding:
        drawers = [Drawer(case, tuple(self._texts(case))) for case in group if self._take(case)]
        opened = {drawer.case.id for drawer in drawers}
        rest = [case for case in group if case.id not in opened]
        named = rest[: self._names]
        self._names -= len(named)
        return Finding(group[0], tuple(drawers), tuple(named), len(rest) - len(named))

    def _take(self, case: CaseEvent) -> bool:
        """Tell whether there is room for a drawer, before anything is put into it."""
        self._room -= 400 + len(case.id) + sum(map(len, case.differences))
        return self._room > 0

    def _texts(self, case: CaseEvent) -> Iterator[Text]:
        yield from self._text(case, "kernel log", _stamped(case.log))
        yield from self._text(case, "console", [("", line) for line in case.console.splitlines()])
        yield from self._text(case, "traceback", [("", line) for line in case.error.splitlines()])
        for number, each in enumerate(case.tries, start=1):
            log = each.get("log", ())
            if log and list(log) != list(case.log):
                yield from self._text(case, f"kernel log of try {number}", _stamped(log))

    def _text(self, case: CaseEvent, source: str, lines: list[tuple[str, str]]) -> Iterator[Text]:
        if not lines:
            return
        key = tuple(text for _, text in lines)
        if key in self._seen:
            if self._seen[key] != case:
                yield Text(source, (), same=self._seen[key])
            return
        trouble = [is_header(text) for _, text in lines]
        first = max(0, trouble.index(True) - _BEFORE) if True in trouble else max(0, len(lines) - _LINES)
        shown = [(stamp + text, bad) for (stamp, text), bad in zip(lines, trouble, strict=True)][first : first + _LINES]
        size = sum(len(text) for text, _ in shown)
        if size > self._room:
            yield Text(source, (), below=len(lines))
            return
        self._room -= size
        self._seen[key] = case
        yield Text(source, tuple(shown), above=first, below=len(lines) - first - len(shown))


def _stamped(log: Iterable[LogLine]) -> list[tuple[str, str]]:
    """Return lines, each after its time as dmesg shows it."""
    times = ((line.get("microseconds"), line["text"]) for line in log)
    return [(f"[{time / 1e6:12.6f}] " if time is not None else "", text) for time, text in times]
