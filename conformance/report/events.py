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
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import msgspec

from common import infile
from common.errors import INTERRUPTIONS, HostError, UsageError
from conformance.model import Ground, LogEntry, TryEntry, Verdict
from conformance.report import plausible
from conformance.report.json_line import collected_later, located, repaired, written

SCHEMA = 1
NAME = "events.jsonl"

_FOLDER = re.compile(r"(,(?:patch|config)=)[^,]*/")
"""The file name in a spec with build options, and the path to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """The beginning of a run: command, host and suite."""

    started: str
    """UTC, ISO 8601, e.g. `2026-11-22T20:29:00Z`."""
    command: tuple[str, ...]
    """The command line, word by word."""
    selected: Mapping[str, int] = field(default_factory=dict)
    """Cases selected for each kernel slug, so that a case that never ran is missed."""
    suite_commit: str = ""
    """The suite's commit, with `-dirty` if the checkout had changes."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions known from the start: `{"qemu": "7.2.22", "virtme-ng": "1.42"}`."""
    bpf_objects: Mapping[str, str] = field(default_factory=dict)
    """Object name to SHA-256."""
    host_kernel: str = ""
    host_cpus: int = 0
    host_memory: int = 0
    """MiB."""
    seed: int = 0
    deadline: float = 0.0
    """Seconds after which the run ends, also with cases left; 0 for none."""
    shard: str = ""
    """`I/N` if this run judges only share I of N of the cases."""
    missing: tuple[str, ...] = ()
    """The shares, `I/N`, that a merged run lacks."""
    quick: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """With `--quick`, by slug: `chose` cases out of `among` decide all `rows`."""
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """A kernel and its machine, or why it could not be judged."""

    spec: str
    slug: str
    release: str = ""
    version: str = ""
    banner: str = ""
    digest: str = ""
    config_sha256: str = ""
    package: Mapping[str, str] = field(default_factory=dict)
    """Where it came from: `Kernel.provenance`."""
    machine: str = ""  # a `MachineKind`
    accelerator: str = ""
    why: str = ""
    """Why this accelerator, and why this machine if not the one asked for."""
    factor: float = 0.0
    """How many times slower than the reference the machine is; each deadline is multiplied by it."""
    boot_seconds: float = 0.0
    template: str = ""
    """`cached` or `built`; empty for a machine without a template. The seconds for it:"""
    template_seconds: float = 0.0
    tools: Mapping[str, str] = field(default_factory=dict)  # versions learnt from the machine
    notes: tuple[str, ...] = ()
    """Sentences the reader must see, e.g. that the kernel is newer than the table's newest row."""
    defects: tuple[Ground, ...] = ()
    """The known defects that a kernel of this version should show, save those that show by chance."""
    error: str = ""
    """Why this kernel could not be judged, one sentence; empty if it could."""
    hint: str = ""
    """What the user can do about `error`."""
    host: bool = False
    """Whether the host or the command line is to blame for `error`, not the kernel."""

    @property
    def title(self) -> str:
        """The spec for readers: without the folders of the files that it names."""
        return _FOLDER.sub(r"\1", self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEvent:
    """The verdict of one case on one kernel."""

    kernel: str
    """The kernel's slug."""
    group: str
    name: str
    id: str
    """`group/name`."""
    verdict: Verdict
    nodeid: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    expected: str = ""
    observed: str = ""
    reason: str = ""
    differences: tuple[str, ...] = ()
    deviation: str = ""
    """The known defects an `xfail` shows, or an `xpass` does not show any more: names, separated by blanks."""
    grounds: tuple[Ground, ...] = ()
    """The rows that decided the verdict; empty in an older log. Fields of a row that are empty may be left out."""
    observation: Mapping[str, Any] | None = None
    """The scenario's observation; None if it did not answer."""
    error: str = ""
    """The guest's traceback; only if the scenario raised."""
    log: tuple[LogEntry, ...] = ()
    """Kernel log of the case."""
    console: str = ""
    """The tail of the serial console; only if the machine died."""
    seconds: float = 0.0
    """From its request to its answer."""
    at: float = 0.0
    """The time of the verdict, in seconds since the run began; 0 if unknown."""
    repeat: str = ""
    """The shell command that repeats just this case."""
    tries: tuple[TryEntry, ...] = ()
    """The tries of a case that was tried more than once."""
    evidence: str = ""
    """The folder with its evidence, below the log's own; only of unexpected cases."""
    flaky: bool = False
    """Whether the tries disagree. The verdict is still that of the worst unconditional try."""
    hasty: bool = False
    """Whether the deciding try looked for missing data only briefly, because other cases had confirmed the symptom."""
    host: bool = False
    """Whether the host is to blame for an `infra`: it killed QEMU or a worker, or changed a template in use."""
    confirmed_by: tuple[str, ...] = ()
    """The cases that showed the same twice, in a fresh clone, too; so this case was not tried again."""
    may_show: tuple[str, ...] = ()
    """The ids of the known defects that the case should show on such a kernel, save those that show by chance.

    Empty where the case was not asked, and in an older log.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishEvent:
    """The end of the run."""

    exit_code: int
    seconds: float
    interrupted: bool = False


Event = RunEvent | KernelEvent | CaseEvent | FinishEvent

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
