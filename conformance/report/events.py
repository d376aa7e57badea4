# SPDX-License-Identifier: GPL-2.0-only
"""The event log: what happened, one JSON object a line, written by the controller; every report reads only this.

Schema version 1. The key `event` of each line names one of four kinds, the other keys are the fields of its dataclass:

- `run`     RunEvent, the first line, once;
- `kernel`  KernelEvent, once a kernel has a machine or cannot get one; a later line about a slug replaces the earlier;
- `case`    CaseEvent, one for each verdict, in their order; a later line about the same case replaces the earlier;
- `finish`  FinishEvent, the last line, save of a run that was resumed. Without it the run was killed; the rest holds.

The log is ASCII. Each line is one write(2), so a log is whole up to its last line however the run ended; a last line
without its newline was cut and is ignored. Schema 1 grows by fields with a default: a reader fills in what an older log
lacks, and ignores fields that it does not know. Everything else that is not as described is refused with the number of
its line. Changes that an older reader would misread take a new schema number.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import msgspec

from common import infile
from common.errors import INTERRUPTIONS, HostError, UsageError
from conformance.model import Ground, Verdict
from conformance.report import plausible
from conformance.report.event_types import SCHEMA, CaseEvent, Event, FinishEvent, KernelEvent, RunEvent
from conformance.report.json_line import collected_later, located, repaired, written

NAME = "events.jsonl"

_KINDS: Mapping[str, type[Event]] = {"run": RunEvent, "kernel": KernelEvent, "case": CaseEvent, "finish": FinishEvent}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class _NotJsonError(ValueError):
    """A line is not JSON."""


class _Kind(msgspec.Struct):
    """The part of a line that says how to read the rest."""

    event: str
    schema: Any = None


_KIND = msgspec.json.Decoder(_Kind)
_DECODERS = {name: msgspec.json.Decoder(kind) for name, kind in _KINDS.items()}


@dataclass(slots=True)
class Run:
    """The content of a log; also grows event by event during a run."""

    start: RunEvent
    kernels: dict[str, KernelEvent] = field(default_factory=dict)
    """By slug, in order of appearance."""
    cases: dict[str, list[CaseEvent]] = field(default_factory=dict)
    """By the kernel's slug, in order of their verdicts."""
    finish: FinishEvent | None = None
    _places: dict[tuple[str, str], int] = field(default_factory=dict, repr=False, compare=False)
    """The index of each case in its list, by slug and case id."""

    @classmethod
    def of(cls, events: Iterable[Event]) -> Run:
        """Gather events; ValueError unless the first, and no other, is a RunEvent."""
        iterator = iter(events)
        start = next(iterator, None)
        if not isinstance(start, RunEvent):
            raise ValueError("the log does not begin with a `run` event")
        run = cls(start)
        for event in iterator:
            run.add(event)
        return run

    def add(self, event: Event) -> None:
        """Take in one more event."""
        match event:
            case RunEvent():
                raise ValueError("a second `run` event")
            case KernelEvent():
                self.finish = None
                self.kernels[event.slug] = event
            case CaseEvent():
                self.finish = None
                self._add_case(event)
            case FinishEvent():
                self.finish = event

    def _add_case(self, event: CaseEvent) -> None:
        """Append a case, or replace an earlier event about it."""
        cases = self.cases.setdefault(event.kernel, [])
        place = self._places.setdefault((event.kernel, event.id), len(cases))
        if place == len(cases):
            cases.append(event)
        else:
            cases[place] = event

    @property
    def slugs(self) -> tuple[str, ...]:
        """Every kernel that was selected, met or judged, in that order."""
        return tuple(dict.fromkeys((*self.start.selected, *self.kernels, *self.cases)))

    def kernel(self, slug: str) -> KernelEvent:
        """Return the kernel's event; with no more than its name if there is none yet."""
        return self.kernels.get(slug) or KernelEvent(spec=slug, slug=slug)

    def counts(self, slug: str | None = None) -> Counter[Verdict]:
        """The number of cases for each verdict, on one kernel or on all."""
        return Counter(case.verdict for case in self._cases(slug))

    def unexpected(self, slug: str | None = None) -> tuple[CaseEvent, ...]:
        """Return the cases that keep the run from exiting 0, on one kernel or on all."""
        return tuple(case for case in self._cases(slug) if not case.verdict.expected)

    def unseen(self, slug: str | None = None) -> int:
        """The number of selected cases without a verdict, on one kernel or on all."""
        slugs = self.slugs if slug is None else (slug,)
        return sum(max(0, self.start.selected.get(slug, 0) - len(self.cases.get(slug, ()))) for slug in slugs)

    def seconds(self, slug: str) -> float:
        """Return the seconds from a kernel's first request to its last verdict.

        Without times of verdicts it is the sum over its cases, which counts parallel ones twice.
        """
        cases = self.cases.get(slug, ())
        if not all(case.at for case in cases):
            return sum(case.seconds for case in cases)
        return max((case.at for case in cases), default=0.0) - min(
            (case.at - case.seconds for case in cases), default=0.0
        )

    def _cases(self, slug: str | None) -> Iterator[CaseEvent]:
        for each in self.slugs if slug is None else (slug,):
            yield from self.cases.get(each, ())


class EventLog:
    """A log being written; a context manager. Replaces an older log at the same path, or appends to it with `again`."""

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, flags if again else flags | os.O_TRUNC, 0o644)
            if again:
                os.ftruncate(self._file, path.read_bytes().rfind(b"\n") + 1)  # complete the cut line
        except OSError as error:
            raise self._cannot(error) from error

    def write(self, event: Event) -> None:
        """Append one line at once; HostError if it cannot be stored."""
        line = encode(event).encode() + b"\n"
        end = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            raise self._cannot(error) from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cannot(self, error: OSError) -> HostError:
        sentence = f"cannot write the event log {self._path}: {error.strerror}"
        return HostError(sentence, hint="choose another directory with --results DIR")


_LONGEST = 128 << 20
"""Bytes of a line at most: the answer of a guest and the kernel log that it keeps are far below."""
_MOST = 5_000_000
"""Lines of a log at most: as many as a thousand runs have."""


def encode(event: Event) -> str:
    """Return the event's line without its newline; the same event gives the same line."""
    values = {each.name: getattr(event, each.name) for each in fields(event)}
    return written({"event": _NAMES[type(event)], **values}, _plain)


def _plain(value: Any) -> dict[str, Any]:
    """Return a value as JSON has it; of a ground, of which there are thousands, only what is not empty."""
    known = {each.name: getattr(value, each.name) for each in fields(value)} if isinstance(value, Ground) else value
    return {name: each for name, each in known.items() if each or known is value}


def decode(line: str | bytes) -> Event:
    """Return the event of one line; ValueError saying what is wrong with it."""
    try:
        return _decode(line)
    except _NotJsonError:
        mended = repaired(line)  # Older suites wrote NaN and half surrogate pairs.
        if not mended:
            raise
    return _decode(mended)


def _decode(line: str | bytes) -> Event:
    try:
        kind = _KIND.decode(line)
        if kind.event not in _KINDS:
            raise ValueError(f"not an event: its key `event` is not one of {', '.join(_KINDS)}")
        if kind.event == "run" and kind.schema != SCHEMA:
            raise ValueError(f"schema {kind.schema!r:.40}; this suite reads schema {SCHEMA}")
        return plausible.checked(_DECODERS[kind.event].decode(line))
    except msgspec.ValidationError as error:
        raise ValueError(f"not an event: {located(str(error))}") from error
    except msgspec.DecodeError as error:
        raise _NotJsonError(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from error
    except RecursionError as error:
        raise _NotJsonError("not JSON that this suite reads: it is nested too deeply") from error


def read(path: Path) -> Run:
    """Read a log, whole or cut; UsageError naming the line that is wrong."""
    hint = f"give the {NAME} that a run with --results DIR wrote, or the DIR"
    if is_comparison(path):
        hint = f"{path} holds a comparison; its runs are {path / 'base'} and {path / 'head'}"
    path, number = path / NAME if os.path.isdir(path) else path, 0

    def events() -> Iterator[Event]:
        nonlocal number
        with infile.opened(path, regular=path.name == NAME) as file:
            while line := file.readline(_LONGEST + 1):
                number += 1
                if line.endswith(b"\n"):
                    yield decode(line)
                elif len(line) > _LONGEST:
                    raise ValueError(f"longer than {_LONGEST >> 20} MiB")
                if number > _MOST:
                    raise ValueError(f"no run has more than {_MOST} events")

    try:
        with collected_later():
            return Run.of(events())
    except OSError as error:
        raise UsageError(f"cannot read the event log {path}: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{path}, line {max(1, number)}: {error}", hint=hint) from error


def is_comparison(folder: Path) -> bool:
    """Whether a folder holds the results of `compare`: those of two runs, and no log of its own."""
    return not os.path.lexists(folder / NAME) and os.path.isfile(folder / "base" / NAME)


def interrupted(run: Run) -> bool:
    """Whether the run was stopped before its end, or killed."""
    return run.finish is None or run.finish.interrupted or run.finish.exit_code in INTERRUPTIONS
