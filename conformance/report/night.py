# SPDX-License-Identifier: GPL-2.0-only
"""A folder of event logs as nights, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.errors import UsageError
from conformance.report.events import NAME
from conformance.report.events import Run
from conformance.report.events import read


@dataclass(frozen=True, slots=True)
class Night:
    """One run, and where its log is."""

    path: Path
    run: Run


def nights(folder: Path) -> list[Night]:
    """Read every log below a folder, in the order in which the runs began; none where there is no folder.

    UsageError names a log that cannot be read. One without its first line was killed before it began, and is no night.
    """
    found = []
    for path in sorted(folder.glob(f"**/{NAME}")):
        try:
            found.append(Night(path.parent, read(path)))
        except UsageError:
            if path.stat().st_size:
                raise
    return sorted(found, key=lambda night: (night.run.start.started, str(night.path)))
