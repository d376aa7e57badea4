# SPDX-License-Identifier: GPL-2.0-only
"""The runs whose event logs are below a folder, oldest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UsageError
from conformance.report.events import NAME, Run, read


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run, and the folder of its log."""

    path: Path
    run: Run


def stored_runs(folder: Path, unreadable: Callable[[UsageError], None]) -> list[StoredRun]:
    """Read every log below a folder, in the order in which the runs began; none if there is no folder.

    `unreadable` is called with the error of each log that cannot be read. A log without its first line, of a run that
    was killed before it began, is left out silently.
    """
    found = []
    try:
        logs = sorted(folder.glob(f"**/{NAME}"))
    except OSError as error:
        hint = "give a folder that holds results folders"
        raise UsageError(f"cannot read the folder {folder}: {error.strerror}", hint=hint) from error
    for path in logs:
        try:
            found.append(StoredRun(path.parent, read(path)))
        except UsageError as error:
            if not path.is_file() or path.stat().st_size:
                unreadable(error)
    return sorted(found, key=lambda stored: (stored.run.start.started, str(stored.path)))
