# SPDX-License-Identifier: GPL-2.0-only
"""Copy the evidence of merged runs, which may be untrusted: no link is followed, and sizes are bounded."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.run.artifacts import FILES, folder_of

LARGEST = 64 << 20
"""Bytes of one file at most; a memory dump is larger, and is not copied."""
ROOM = 1 << 30
"""Bytes of all files."""
_PIECE = 1 << 20
_PLAIN = re.compile(r"[A-Za-z0-9_.+-]{1,200}")
"""A name that a slug or a case gives to a folder; `..` is excluded below."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class EvidenceOrigin:
    """The origin of a case's evidence."""

    results: Path
    evidence: str
    """The folder below `results`, as the log names it."""


def marked(run: Run, results: Path, origins: dict[str, EvidenceOrigin]) -> Run:
    """Return the run with a key of `origins` as each case's evidence, so that its origin survives the merge."""

    def mark(case: CaseEvent) -> CaseEvent:
        if not case.evidence:
            return case
        key = str(len(origins))
        origins[key] = EvidenceOrigin(results, case.evidence)
        return replace(case, evidence=key)

    return replace(run, cases={slug: list(map(mark, cases)) for slug, cases in run.cases.items()})


def carry(run: Run, output: Path, origins: dict[str, EvidenceOrigin]) -> tuple[Run, list[str]]:
    """Copy the evidence that the cases of a merged run have; return the run, and what was not copied."""
    room = ROOM
    left: list[str] = []

    def carried(case: CaseEvent) -> CaseEvent:
        nonlocal room
        if not case.evidence:
            return case
        folder = folder_of(case.kernel, case.id)
        try:
            room -= _copy(origins[case.evidence], output, folder, room, left)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            left.append(f"{origins[case.evidence].results / origins[case.evidence].evidence}: {reason}")
            return replace(case, evidence="")
        return replace(case, evidence=str(folder))

    return replace(run, cases={slug: list(map(carried, cases)) for slug, cases in run.cases.items()}), left


def _copy(origin: EvidenceOrigin, output: Path, folder: Path, room: int, left: list[str]) -> int:
    """Copy the files of one case; return how many bytes they have."""
    size = 0
    with _opened(origin.results, Path(origin.evidence).parts) as source, _opened(output, folder.parts, make=True) as to:
        for name in FILES:
            why = ""
            try:
                number = _copy_file(source, to, name, min(LARGEST, room - size))
            except FileNotFoundError:
                continue
            except OSError as error:
                number, why = 0, error.strerror or str(error)
            if number < 0:
                why = f"over the limit for copies: {LARGEST >> 20} MiB a file, {ROOM >> 20} MiB in all"
            if why:
                left.append(f"{origin.results / origin.evidence / name}: {why}")
            size += max(0, number)
    return size


def _copy_file(source: int, to: int, name: str, room: int) -> int:
    """Copy one regular file from one folder into another; return its size, -1 where there is no room for it."""
    # open(2) of a FIFO would wait for a writer.
    with os.fdopen(
        os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source), "rb"
    ) as old:
        status = os.fstat(old.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is not a regular file")
        if status.st_size > room:
            return -1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copied = 0
        with os.fdopen(os.open(name, flags, 0o644, dir_fd=to), "wb") as new:
            while copied <= room and (piece := old.read(min(_PIECE, room - copied))):
                copied += new.write(piece)
        return copied


@contextlib.contextmanager
def _opened(root: Path, parts: Iterable[str], *, make: bool = False) -> Iterator[int]:
    """Open a folder below `root`, no step to which may be a link; ValueError for a name that leads elsewhere."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if not _PLAIN.fullmatch(part) or not part.strip("."):
                raise ValueError(f"{part!r:.60} is not a name of a folder of evidence")
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)
