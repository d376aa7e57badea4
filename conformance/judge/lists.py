# SPDX-License-Identifier: GPL-2.0-only
"""Allow lists, deny lists and lists of known splats: files a user writes, where every mistake is an error.

The syntax is BPF CI's, one entry a line, what follows `#` says why:

    redirect/sockmap-*-vsock_*    # loses the last byte; link=https://...; kernel=6.4..6.12; until=2027-03-01

An entry of an allow or a deny list names cases as `group/case`; `*`, `?` and `[...]` match within one component, an
entry without the case means the whole group. An entry of a splat list is a regular expression that the title of a
kernel's report must match somewhere.

    kernel=  6.1..6.6   from 6.1 up to any 6.6.y      ..6.6  6.1..   open at one end
             6.12       any 6.12.y                    all    every kernel

All four annotations are required, except in an allow list, where none is: it says what to run, not what is broken.
An entry that is past its `until`, or matches no case, is an error, so that no list outlives its reasons.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from common import infile
from common.errors import UsageError
from conformance.model import Ground, Source
from kernels.version import Version

_HINT = "conformance/judge/lists.py says how a line is written"
_COMMENT = re.compile(r"(?:^|\s+)#\s*")
_KEYS = ("link", "kernel", "until")
_ALL = "all"


@dataclass(frozen=True, slots=True)
class KernelRange:
    """A range of kernels, both ends included; an end of `6.6` includes all of 6.6.y."""

    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> KernelRange:
        """Read a range; ValueError if it is none."""
        if text == _ALL:
            return cls()
        first, dots, last = text.partition("..")
        span = cls(_numbers(first), _numbers(last if dots else first))
        if not (span.first or span.last) or (span.first and span.last and span.first > span.last):
            raise ValueError(f"{text!r} is not a range of kernels")
        return span

    def __contains__(self, version: Version) -> bool:
        numbers = (version.major, version.minor, version.sublevel)
        return numbers[: len(self.first)] >= self.first and numbers[: len(self.last)] <= (self.last or numbers)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line."""

    file: str
    """As the user gave it."""
    line: int
    pattern: str
    reason: str = ""
    link: str = ""
    kernels: KernelRange = KernelRange()
    until: dt.date | None = None

    def names(self, case_id: str) -> bool:
        """Whether it matches a case, `group/name`; whole components only."""
        wanted, given = self.pattern.split("/"), case_id.split("/")
        return len(wanted) <= len(given) and all(map(fnmatchcase, given, wanted))

    def excuses(self, title: str) -> bool:
        """Whether it matches a report with this title."""
        return re.search(self.pattern, title) is not None

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}, line {self.line}"

    def as_ground(self, prefix: str = "") -> Ground:
        """Return the line as the ground of a verdict."""
        return Ground(
            file=self.file, row=f"line {self.line}", source=Source.LIST, reason=f"{prefix}{self}", link=self.link
        )

    def __str__(self) -> str:
        """Return the reason, with the link and the day on which it expires."""
        until = f"until {self.until}" if self.until else ""
        rest = ", ".join(filter(None, [self.link, until]))
        return f"{self.reason} ({rest})" if rest else self.reason


@dataclass(frozen=True, slots=True)
class Lists:
    """All lists of a run."""

    allow: tuple[Entry, ...] | None = None
    """None without an allow list: everything is allowed."""
    deny: tuple[Entry, ...] = ()
    splats: tuple[Entry, ...] = ()

    def selects(self, case_id: str) -> bool:
        """Whether the case is selected for any kernel."""
        return self.allow is None or any(entry.names(case_id) for entry in self.allow)

    def refusal(self, case_id: str, version: Version) -> Ground | None:
        """Return why this kernel is not asked this case; None if it is."""
        for entry in self.deny:
            if version in entry.kernels and entry.names(case_id):
                return entry.as_ground("denied: ")
        if self.allow is None or any(version in entry.kernels and entry.names(case_id) for entry in self.allow):
            return None
        # `selects` has left out every case that no entry names, on any kernel.
        named = next(entry for entry in self.allow if entry.names(case_id))
        return replace(named.as_ground(), reason="not on the allow list for this kernel")

    def known(self, title: str, version: Version) -> Ground | None:
        """Return the reason that excuses a report with this title on this kernel; None if there is none."""
        entries = (entry for entry in self.splats if version in entry.kernels and entry.excuses(title))
        return next((entry.as_ground() for entry in entries), None)


EVERYTHING = Lists()
"""No lists."""


def read_lists(
    allow: Sequence[str],
    deny: Sequence[str],
    splats: Sequence[str],
    *,
    universe: Collection[str],
    today: dt.date | None = None,
) -> Lists:
    """Read the files; UsageError names file and line of an entry that is malformed, expired or names no case."""
    day = today or dt.datetime.now(dt.UTC).date()
    allowed = tuple(entry for path in allow for entry in _read(Path(path), day, required=False))
    denied = tuple(entry for path in deny for entry in _read(Path(path), day, required=True))
    for entry in (*allowed, *denied):
        if not any(map(entry.names, universe)):
            raise UsageError(
                f"{entry.where}: {entry.pattern!r} names no case that exists", hint="remove or fix the line"
            )
    known = tuple(entry for path in splats for entry in _read(Path(path), day, required=True))
    for entry in known:
        try:
            re.compile(entry.pattern)
        except re.error as error:
            raise UsageError(f"{entry.where}: not a regular expression: {error}", hint=_HINT) from error
    return Lists(allow=allowed if allow else None, deny=denied, splats=known)


def _read(path: Path, today: dt.date, *, required: bool) -> Iterator[Entry]:
    try:
        lines = infile.small(path).decode().splitlines()
    except OSError as error:
        raise UsageError(f"the list {path} cannot be read: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the list {path} cannot be read: {error}", hint="write it in UTF-8") from error
    for number, line in enumerate(lines, 1):
        pattern, *notes = _COMMENT.split(line.strip(), maxsplit=1)
        if pattern:
            yield _entry(str(path), number, pattern, notes[0] if notes else "", today, required=required)


def _entry(file: str, line: int, pattern: str, notes: str, today: dt.date, *, required: bool) -> Entry:
    where = f"{file}, line {line}"
    reason, *rest = (note.strip() for note in notes.split(";"))
    given = {key.strip(): value.strip() for key, _, value in (note.partition("=") for note in rest if note)}
    for unknown in sorted(given.keys() - set(_KEYS)):
        raise UsageError(f"{where}: unknown annotation {unknown!r}", hint=_HINT)
    missing = [
        name for name, value in {"reason": reason, **{key: given.get(key) for key in _KEYS}}.items() if not value
    ]
    if required and missing:
        raise UsageError(f"{where}: lacks {', '.join(missing)}", hint=_HINT)
    try:
        kernels = KernelRange.parse(given.get("kernel") or _ALL)
        until = dt.date.fromisoformat(given["until"]) if given.get("until") else None
    except ValueError as error:
        raise UsageError(f"{where}: {error}", hint=_HINT) from error
    if until is not None and until < today:
        raise UsageError(
            f"{where}: {pattern!r} has expired on {until}",
            hint="remove it; or check that it still holds, and set a later `until`",
        )
    return Entry(file, line, pattern, reason, given.get("link", ""), kernels, until)


def _numbers(text: str) -> tuple[int, ...]:
    if text and not re.fullmatch(r"\d+(?:\.\d+){1,2}", text):
        raise ValueError(f"{text!r} is not a kernel version")
    return tuple(map(int, text.split("."))) if text else ()
