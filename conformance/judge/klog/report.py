# SPDX-License-Identifier: GPL-2.0-only
"""A report in the kernel log as a value: its family, title and fingerprint."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

TRUNCATED = "truncated"
"""The family of a report of which the log has only the first line."""

_DEPTH = 5
"""Functions in a fingerprint."""

_TABLE = tomllib.loads(Path(__file__).with_name("families.toml").read_text())

_FRAME = re.compile(r"\s*(?:\[<[0-9a-f]+>\] )?(\? )?([A-Za-z_.$][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[\w ]+\])?\s*$")
_HERE = re.compile(r"RIP: 0010:([A-Za-z_][\w.$]*)\+0x|(?:pc|EIP) ?: ([A-Za-z_][\w.$]*)\+0x")
_WORK = re.compile(r"Workqueue: \S+ ([A-Za-z_]\w*)")
_TRACE = re.compile(r"Call [Tt]race:|stack backtrace:")
_WITHIN = re.compile(r"\s*</?\w+>\s*$|(?:RIP|R[SB]P|R[A-D]X|R[SD]I|R\d\d|[C-G]S|[CD]R\d|Code|ORIG_RAX|EFLAGS|PKRU):")
"""Lines that may stand between the frames of one stack."""
_SUFFIX = re.compile(r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv)(?:\.\d+)*)+$")

_VARIABLE = (
    (re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\])?"), ""),
    (re.compile(r" ?\[#\d+\].*"), ""),
    (re.compile(r" ?\((?:Not tainted|Tainted: [^)]*)\)"), ""),
    (re.compile(r"\(_+ptrval_+\)|\(null\)|\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b"), ""),
    (re.compile(r"\b(?:CPU|PID)(?::|#)? ?#?\d+:?", re.IGNORECASE), ""),
    (re.compile(r"(?<![\w./-])-?\d+(?:\.\d+)?(?:ns|us|ms|s|[kM]?B|%)?(?!\w)"), ""),
    (re.compile(r"\s+(?=[,:;.!)])|(?<!\w)\(\s*\)"), ""),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class Report:
    """One report of the kernel."""

    family: str
    """One of families.toml's, or `truncated`."""
    title: str
    """One line without anything that differs from run to run."""
    fingerprint: tuple[str, ...]
    """The first significant functions, innermost first; empty if no stack was printed."""
    text: str
    """Its lines from the header on, with lines of other CPUs in between."""

    def __str__(self) -> str:
        """Return title and fingerprint as one line."""
        return f"{self.title} ({' < '.join(self.fingerprint)})" if self.fingerprint else self.title


@dataclass(frozen=True, slots=True)
class Header:
    """A row of the table: how a report begins."""

    family: str
    pattern: str
    """Matches a whole message. Compiled at first use: compiling all would cost each start 0.1 s."""
    title: str | None = None
    place: bool = False
    alone: bool = False
    last: bool = False

    def title_of(self, message: str, functions: Sequence[str]) -> str:
        """Return the title of a report that begins with `message`."""
        match = _compiled(self.pattern).fullmatch(message)
        groups = match.groupdict(default="") if match else {}
        if "function" in groups:
            groups["function"] = _SUFFIX.sub("", groups["function"].partition("+")[0])
        title = normalise(self.title.format(**groups) if self.title else message)
        if self.place and functions and functions[0] not in re.findall(r"[\w.]+", title):
            title += f" in {functions[0]}"
        return title


HEADERS = tuple(Header(**row) for row in _TABLE["header"])


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@cache
def _any_header() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{re.sub(r'[(][?]P<[a-z]+>', '(?:', header.pattern)})" for header in HEADERS))


@cache
def _noise() -> re.Pattern[str]:
    return re.compile("|".join(_TABLE["noise"]))


def header_of(message: str) -> Header | None:
    """Return the row whose pattern a message matches, without its prefix; None if no report begins here."""
    if not _any_header().fullmatch(message):
        return None
    return next(header for header in HEADERS if _compiled(header.pattern).fullmatch(message))


def normalise(title: str) -> str:
    """Take out what differs from run to run: addresses, offsets, numbers, taint."""
    for pattern, replacement in _VARIABLE:
        title = pattern.sub(replacement, title)
    return title.strip(" :;,=-")


def is_frame(message: str) -> bool:
    """Tell whether a message is a line of a stack."""
    return _FRAME.match(message) is not None


def fingerprint(messages: Iterable[str]) -> tuple[str, ...]:
    """Return the first significant functions, innermost first; if there is none, the function a worker ran.

    A function that ends in a tail call is not on the stack.
    """
    lines = tuple(messages)
    meaningful = tuple(dict.fromkeys(each for each in _functions(lines) if not _noise().fullmatch(each)))[:_DEPTH]
    return meaningful or tuple(found[1] for found in map(_WORK.match, lines) if found)[:1]


def _functions(messages: Iterable[str]) -> Iterator[str]:
    """Yield the functions of the first stack with a heading, or else of the first run of frames."""
    stacks = [_Stack()]
    here = ""
    for message in messages:
        if frame := _FRAME.match(message):
            if stacks[-1].closed:
                stacks.append(_Stack())
            stacks[-1].frames.append((frame[1] is None, frame[2]))
        elif _TRACE.search(message):
            stacks.append(_Stack(here=here, announced=True))
        elif (found := _HERE.search(message)) and (not stacks[-1].frames or stacks[-1].closed):
            here = here or found[1] or found[2]
        elif not _WITHIN.match(message):
            stacks[-1].closed = bool(stacks[-1].frames)
    filled = [stack for stack in stacks if stack.frames] or [_Stack(here=here)]
    chosen = next((stack for stack in filled if stack.announced), filled[0])
    yield from (_SUFFIX.sub("", name) for name in chosen.functions())


@dataclass(slots=True)
class _Stack:
    """A run of frames."""

    here: str = ""
    """The function above the first frame, where the registers tell."""
    announced: bool = False
    closed: bool = False
    frames: list[tuple[bool, str]] = field(default_factory=list)
    """Whether the unwinder was sure of the function, and its name."""

    def functions(self) -> Iterator[str]:
        """Yield the functions the unwinder was sure of, innermost first; all if it was sure of none."""
        sure = any(each for each, _ in self.frames)
        if self.here:
            yield self.here
        yield from (name for each, name in self.frames if each or not sure)
