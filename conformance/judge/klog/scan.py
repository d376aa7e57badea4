# SPDX-License-Identifier: GPL-2.0-only
"""Find the kernel's reports (warnings, oopses, panics) in a log, complete or as it arrives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from conformance.judge.klog.report import TRUNCATED, Header, Report, fingerprint, header_of, is_frame

QUIET = 1.0
"""Seconds of silence after which a report is over."""
LONGEST = 500
"""Lines of a report at most; lockdep's longest are shorter, and a runaway kernel must not fill our memory."""
_EARLY = 32
"""Lines at most between a banner and its header; after more, the banner belongs to no header."""

_CUT = "[ cut here ]"
_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
_BANNER = re.compile(r"={10,}\s*$")
_RECORD = re.compile(r"\d+,\d+,(?P<microseconds>\d+),[^;,]*(?:,caller=(?P<caller>[TC]\d+))?[^;]*;")
_PREFIX = re.compile(
    r"(?:<\d+>)?(?:\w+ *:\w+ *: )?(?:(?:\w{3} +\d+ [\d:]{8}|\d{4}-\d\d-\d\dT\S+) \S+ kernel: )?"
    r" ?(?:\[ *(?P<seconds>\d+\.\d+)\] ?)?(?:\[ *(?P<caller>[TC]\d+)\] ?)?"
)
_MIDDLE = re.compile(r"(?<=[^\"'`(\s])(?= ?\[ *\d+\.\d{6}\] )")
"""Matches a kernel line that begins within a line of another writer on the console."""


@dataclass(frozen=True, slots=True)
class _Line:
    raw: str
    message: str
    seconds: float | None
    caller: str


@dataclass(slots=True)
class _Open:
    """A report that may not have ended."""

    announced: int = 0
    """The number of `cut here` banners: a report even without a header, or several whose headers are still to come."""
    interrupts: bool = False
    """Another report had not ended when this one began: lines before its own header belong to the other."""
    ended: bool = False
    """The other report has ended, so a new header begins a new report."""
    lines: list[_Line] = field(default_factory=list)
    header: Header | None = None
    message: str = ""
    complete: bool = False
    """Its stack, or the last of its headers, has been read."""
    last: float | None = None

    def add(self, line: _Line) -> None:
        """Take in a line."""
        self.last = line.seconds if line.seconds is not None else self.last
        if self.interrupts and self.header is None and self.lines:
            return
        if len(self.lines) < LONGEST:
            self.lines.append(line)
        self.complete = self.complete or is_frame(line.message)

    def over(self, line: _Line) -> bool:
        """Return whether the kernel was silent before this line, or no header followed the banner."""
        silent = line.seconds is not None and self.last is not None and line.seconds - self.last > QUIET
        return silent or (self.header is None and len(self.lines) >= _EARLY)

    def closed_by_banner(self, line: _Line) -> bool:
        """Return whether a banner ends a report that a banner began."""
        return self.complete and not self.over(line) and _BANNER.match(self.lines[0].message) is not None

    def report(self) -> Report | None:
        """Return the report; None if no header followed the banner."""
        text = "\n".join(line.raw for line in self.lines)
        functions = fingerprint(line.message for line in self.lines)
        if self.header is not None:
            return Report(self.header.family, self.header.title_of(self.message, functions), functions, text)
        return Report(TRUNCATED, "a report that is cut off", functions, text) if self.announced else None


class Scanner:
    """Reads a log piece by piece, as a serial console gives it; a line split between two pieces is one line."""

    def __init__(self) -> None:
        self._partial = ""
        self._open: dict[str, _Open] = {}
        """By caller: CONFIG_PRINTK_CALLER separates the reports of several CPUs."""
        self._unended: dict[str, int] = {}
        """By caller, the number of reports with `cut here` and no end line yet."""
        self._spoke: dict[str, float] = {}
        """By caller, the time of the last of them."""
        self._ended: list[Report] = []

    def feed(self, text: str) -> tuple[Report, ...]:
        """Take in a piece of any length and return the reports that ended in it."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._take(line)
        return self._hand_over()

    def finish(self) -> tuple[Report, ...]:
        """Return the unfinished reports at the end of the log."""
        if self._partial:
            self._take(self._partial)
            self._partial = ""
        while self._open:
            self._close(next(iter(self._open)))
        return self._hand_over()

    def _hand_over(self) -> tuple[Report, ...]:
        reports, self._ended = tuple(self._ended), []
        return reports

    def _take(self, raw: str) -> None:
        raw = raw.rstrip("\r")
        start = 0
        while middle := _MIDDLE.search(raw, max(start + 1, _prefix(raw, start).end())):
            self._line(_parse(raw[start : middle.start()]))
            start = middle.start()
        self._line(_parse(raw[start:]))

    def _line(self, line: _Line) -> None:
        self._listen(line)
        header = header_of(line.message.strip())
        cut, banner = _CUT in line.message, _BANNER.match(line.message) is not None
        if banner and (found := self._open.get(line.caller)) is not None and found.closed_by_banner(line):
            found.add(line)
            self._close(line.caller)
            return
        found = self._continued(line, header, cut=cut, banner=banner)
        if found is None:
            if header is None and not banner and not cut:
                self._end(line)
                return
            interrupts = cut and self._unended.get(line.caller, 0) > 0
            found = self._open[line.caller] = _Open(interrupts=interrupts)
        found.announced += cut
        self._unended[line.caller] = self._unended.get(line.caller, 0) + cut
        if header is not None and found.header is None:
            found.header, found.message = header, line.message.strip()
        found.add(line)
        if header is not None:
            found.complete = found.complete or header.last
        ends = self._end(line)
        if ends and found.interrupts and found.header is None:
            found.interrupts = self._unended[line.caller] > found.announced
            found.ended = True
        elif ends or (header is not None and header.alone and found.header is header):
            self._close(line.caller)

    def _continued(self, line: _Line, header: Header | None, *, cut: bool, banner: bool) -> _Open | None:
        """Return the open report that a line continues; None if the line begins another."""
        found = self._open.get(line.caller)
        if found is None:
            return None
        over = found.over(line)
        another = found.complete and (header is not None or banner or cut)
        if found.ended and found.header is None:
            another = another or banner or (header is not None and not header.last)
        if not over and not another:
            return found
        self._close(line.caller)
        return None if over else self._open.get(line.caller)

    def _listen(self, line: _Line) -> None:
        """After a silence, close all open reports."""
        if line.seconds is not None:
            if line.seconds - self._spoke.get(line.caller, line.seconds) > QUIET:
                self._unended.pop(line.caller, None)
            self._spoke[line.caller] = line.seconds

    def _end(self, line: _Line) -> bool:
        """Count an end line of any report."""
        ends = _END.search(line.message) is not None
        self._unended[line.caller] = max(0, self._unended.get(line.caller, 0) - ends)
        return ends

    def _close(self, caller: str) -> None:
        closed = self._open.pop(caller)
        report = closed.report()
        if report is not None:
            self._ended.append(report)
        if closed.header is not None and closed.announced > 1:
            awaited = closed.announced - 1
            interrupts = self._unended.get(caller, 0) > awaited
            self._open[caller] = _Open(awaited, interrupts, ended=True, lines=closed.lines[:1], last=closed.last)


def find_reports(lines: Iterable[str]) -> tuple[Report, ...]:
    """Return every report in a log, in order; lines may have level, time and caller, or none of them."""
    return tuple(_reports(lines))


def find_splat(lines: Iterable[str]) -> str | None:
    """Return the first report's title, or None for a healthy log."""
    return next((report.title for report in _reports(lines)), None)


def is_header(line: str) -> bool:
    """Return whether a line is the header of a report."""
    return header_of(_parse(line).message.strip()) is not None


def _reports(lines: Iterable[str]) -> Iterator[Report]:
    scanner = Scanner()
    for line in lines:
        yield from scanner.feed(f"{line}\n")
    yield from scanner.finish()


def _parse(raw: str) -> _Line:
    """Strip level, time and caller, in all formats of kernel logs."""
    record = _RECORD.match(raw)
    if record is not None:
        return _Line(raw, raw[record.end() :], int(record["microseconds"]) / 1e6, record["caller"] or "")
    prefix = _prefix(raw, 0)
    seconds = float(prefix["seconds"]) if prefix["seconds"] else None
    return _Line(raw, raw[prefix.end() :], seconds, prefix["caller"] or "")


def _prefix(raw: str, start: int) -> re.Match[str]:
    prefix = _PREFIX.match(raw, start)
    assert prefix is not None  # everything in it is optional
    return prefix
