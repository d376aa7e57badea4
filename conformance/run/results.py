# SPDX-License-Identifier: GPL-2.0-only
"""The results folder of a run: a new one for each run unless named, used by one run at a time, never overwritten."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Self

from common import foreign
from common.errors import HostError, UsageError
from common.program import here
from conformance.model import Verdict
from conformance.report import summary
from conformance.report.event_types import CaseEvent, RunEvent
from conformance.report.events import NAME, Run, decode

FOLDER = "conform-results"
"""Below the current directory; has a folder for each run without --results."""
LATEST = "latest"
"""A symbolic link to the folder of the run that ended last."""

_IGNORE = ".gitignore"
_COMPARISON = "comparison.json"
_SIDES = ("base", "head")
"""The folders that `compare` writes: the results of each side."""
RESUMABLE = ("run", "matrix")
"""The commands that have --resume."""
_FIRST_LINE = 1 << 20
"""Bytes that are read of a log's first line."""
_RESULTS = "--results"
"""The option that names a results folder."""


class Claim:
    """A results folder that no other run uses, as long as this object is not released."""

    __slots__ = ("_lock", "_made", "path")

    def __init__(self, path: Path, *, again: bool = False, option: str = _RESULTS) -> None:
        """Make and lock the folder; with `again` the folder must have the results of an earlier run, otherwise none.

        `option` is that of the command which names another. UsageError where another run uses the folder, or has left
        its results; HostError where it cannot be made.
        """
        self.path = path
        elsewhere = f"choose another folder with {option} DIR"
        self._made = not again and _make(path, elsewhere)
        self._lock = _lock(path, elsewhere)
        if not again and _used(path):
            self.release()
            resuming = f"; an interrupted run is continued with: {resume_command(path)}" * (option == _RESULTS)
            raise UsageError(
                f"{path} already holds the results of a run",
                hint=f"{elsewhere}{resuming}",
            )

    def release(self) -> None:
        """Let others use the folder; remove it if this run made it and left nothing in it. May be called twice."""
        if self._lock >= 0:
            with suppress(OSError):  # a log to which nothing was written
                if not (self.path / NAME).stat().st_size:
                    (self.path / NAME).unlink()
            if self._made:
                with suppress(OSError):  # not empty
                    self.path.rmdir()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@contextlib.contextmanager
def new_folder(suffix: str = "") -> Iterator[Path]:
    """Make a folder for a run that names none, `conform-results/2026-11-30T15-59-48`; remove it if it stays empty.

    `latest` names it afterwards, unless it has a suffix.
    """
    above = Path(FOLDER)
    if above.is_symlink():
        # The current directory may be an untrusted kernel tree.
        raise HostError(f"{above.absolute()} is a symbolic link", hint="name a results folder with --results DIR")
    try:
        above.mkdir(exist_ok=True)
        with suppress(FileExistsError), (above / _IGNORE).open("x") as file:
            file.write("*\n")  # like pytest's cache: the current directory may be a kernel tree
        path = _reserved(above, datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S") + suffix)
    except OSError as error:
        raise HostError(
            f"cannot make a results folder in {above.absolute()}: {(error.strerror or str(error)).lower()}",
            hint="name a folder that can be written with --results DIR",
        ) from error
    try:
        yield path
    finally:
        try:
            path.rmdir()
        except OSError:
            if not suffix:
                _point(above / LATEST, path.name)
        else:
            with suppress(OSError):
                if [each.name for each in above.iterdir()] == [_IGNORE]:
                    (above / _IGNORE).unlink()
                    above.rmdir()


def closing_lines(folder: Path, run: Run | None, *, resumable: bool = True) -> list[str]:
    """Return the last lines of a run: the results folder, how to resume it if it did not finish, how to open its page.

    Nothing if the run never began; `run` is None also if a full disk or a fault of the suite ended it.
    """
    if run is None and not _began(folder):
        return []
    name = foreign.line(shlex.quote(os.fspath(folder)))
    lines = ["", f"results: {name}"]
    if resumable and (run is None or run.unseen() or run.counts()[Verdict.INFRA]):
        lines.append(f"resume:  {resume_command(folder)}")
    return [here(line) for line in lines] + [here(f"page:    ./conform report {name} --open")]


def located(run: Run, folder: Path) -> Run:
    """Return the run with the evidence of its cases named from the current directory, not from the results folder."""

    def moved(case: CaseEvent) -> CaseEvent:
        return replace(case, evidence=os.fspath(folder / case.evidence)) if case.evidence else case

    return replace(run, cases={slug: list(map(moved, cases)) for slug, cases in run.cases.items()})


def resume_command(folder: Path) -> str:
    """Return the command that continues the run in a folder: the one that made it."""
    return f"./conform {_maker(folder)} --resume {shlex.quote(os.fspath(folder))}"


def _maker(folder: Path) -> str:
    """Return which resumable command began the log in a folder; `run` if the log does not say."""
    try:
        with (folder / NAME).open("rb") as file:
            start = decode(file.readline(_FIRST_LINE))
    except (OSError, ValueError):
        return RESUMABLE[0]
    made_by = start.command[1:2] if isinstance(start, RunEvent) else ()
    return made_by[0] if made_by and made_by[0] in RESUMABLE else RESUMABLE[0]


def _make(path: Path, elsewhere: str) -> bool:
    """Create a folder; return whether it did not exist."""
    if os.path.islink(path):
        raise HostError(f"{path} is a symbolic link", hint="name the folder that it leads to")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except FileExistsError as error:
        if path.is_dir():
            return False
        raise _cannot(path, errno.ENOTDIR, elsewhere) from error
    except OSError as error:
        raise _cannot(path, error.errno or 0, elsewhere) from error
    return True


def _cannot(path: Path, number: int, elsewhere: str) -> HostError:
    return HostError(f"cannot make the results folder {path}: {os.strerror(number)}", hint=elsewhere)


def _lock(path: Path, elsewhere: str) -> int:
    """Lock a folder and return the descriptor with the lock; the kernel frees it however this process ends."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        hint = f"the folder of a run that was interrupted, e.g. one below {FOLDER}"
        raise UsageError(f"there is no results folder {path}: {error.strerror}", hint=hint) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(
            f"another run is writing its results to {path}",
            hint=f"{elsewhere}; if that run is interrupted, continue it with: {resume_command(path)}",
        ) from error
    except OSError:
        pass  # NFS cannot lock a directory; only the check for earlier results remains
    return descriptor


def _used(path: Path) -> bool:
    """Return whether a folder has files of a run; an empty log is that of a run that never began."""
    others = [path / "cases", path / summary.NAME, path / _COMPARISON]
    return any(map(_began, (path, *(path / side for side in _SIDES)))) or any(map(Path.exists, others))


def _began(path: Path) -> bool:
    """Return whether a folder has a log that is not empty."""
    try:
        return (path / NAME).stat().st_size > 0
    except OSError:
        return False


def _reserved(above: Path, name: str) -> Path:
    """Create a folder of this name, with a number if another run began in the same second."""
    number = 1
    while True:
        path = above / (name if number == 1 else f"{name}.{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _point(link: Path, target: str) -> None:
    """Redirect a symbolic link atomically; anything else of that name is left alone."""
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    with suppress(OSError):
        if link.is_symlink() or not link.exists():
            beside.symlink_to(target)
            beside.replace(link)
