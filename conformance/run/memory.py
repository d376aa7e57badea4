# SPDX-License-Identifier: GPL-2.0-only
"""The memory that a run takes, its machines included."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path


class Peak:
    """Watch the proportional set size of a process and all its descendants."""

    def __init__(self, pid: int, interval: float) -> None:
        """Begin to sample, with this many seconds between two samples."""
        self._pid = pid
        self._interval = interval
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Stop and return the largest sample, in MiB."""
        self._done.set()
        self._thread.join()
        return self._most / 1024

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            self._most = max(self._most, sum(_proportional(pid) for pid in family(self._pid)))


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    try:
        children = [
            child
            for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:  # it ended meanwhile
        return
    for child in children:
        yield from family(int(child))


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
