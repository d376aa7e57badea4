# SPDX-License-Identifier: GPL-2.0-only
"""Logs of the cases that somebody will want to look into, as many as fit in the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from conformance.judge.klog import is_header
from conformance.model import LogEntry, Verdict
from conformance.report.event_types import CaseEvent
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
"""Cases without room that are named; the tables have all cases."""
_LINES = 160
"""Lines of one log."""
_BEFORE = 12
"""Lines before the first sign of trouble, among these."""


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
class CaseEvidence:
    """One case on one kernel."""

    case: CaseEvent
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class AlikeCases:
    """Cases of one kernel that differ only in their names."""

    first: CaseEvent
    shown_cases: tuple[CaseEvidence, ...]
    named: tuple[CaseEvent, ...] = ()
    """Some for which the page has no room."""
    more: int = 0
    """The number of further cases."""

    @property
    def cases(self) -> tuple[CaseEvent, ...]:
        """The cases that the page lists one by one."""
        return (*(shown.case for shown in self.shown_cases), *self.named)


class EvidencePicker:
    """Picks the cases whose logs the page shows, as long as there is room."""

    def __init__(self) -> None:
        self._room, self._names = _ROOM, _NAMES
        self._seen: dict[tuple[str, ...], CaseEvent] = {}

    def findings(self, cases: Iterable[CaseEvent]) -> list[AlikeCases]:
        """Return the cases, those that are alike together, the gravest first."""
        return [
            self._finding(group) for group in sorted(alike(cases), key=lambda group: _GRAVEST.index(group[0].verdict))
        ]

    def _finding(self, group: list[CaseEvent]) -> AlikeCases:
        shown_cases = [CaseEvidence(case, tuple(self._texts(case))) for case in group if self._take(case)]
        opened = {shown.case.id for shown in shown_cases}
        rest = [case for case in group if case.id not in opened]
        named = rest[: self._names]
        self._names -= len(named)
        return AlikeCases(group[0], tuple(shown_cases), tuple(named), len(rest) - len(named))

    def _take(self, case: CaseEvent) -> bool:
        """Tell whether the page has room for a case, before any of its logs."""
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


def _stamped(log: Iterable[LogEntry]) -> list[tuple[str, str]]:
    """Return lines, each after its time as dmesg shows it."""
    times = ((line.get("microseconds"), line["text"]) for line in log)
    return [(f"[{time / 1e6:12.6f}] " if time is not None else "", text) for time, text in times]
