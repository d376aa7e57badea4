# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log and the taint word, read in windows that leave no gap."""

from __future__ import annotations

import os
import re
from typing import Any

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
RECORD = 8192
"""The kernel's own limit on one record (CONSOLE_EXT_LOG_MAX); a smaller buffer would get EINVAL."""


def parse(record: bytes) -> list[Any] | None:
    """Turn a `/dev/kmsg` record into [sequence, level, microseconds, text]; None if it is none."""
    head, separator, rest = record.partition(b";")
    fields = head.split(b",")
    if not separator or len(fields) < 3:
        return None
    text = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), rest.split(b"\n", 1)[0])
    try:
        return [int(fields[1]), int(fields[0]) & 7, int(fields[2]), text.decode(errors="replace")]
    except ValueError:
        return None


class KernelLog:
    """What the kernel said since it was last asked."""

    def __init__(self, path: str = "/dev/kmsg", tainted: str = "/proc/sys/kernel/tainted") -> None:
        self._log = _open(path)
        self._tainted = _open(tainted)
        self._taint = self._read_taint()

    def window(self) -> dict[str, Any]:
        """Return the records and the taint bits that are new since the last window, and whether all were seen."""
        lines, complete = self._read_lines()
        taint = self._read_taint()
        new = taint & ~self._taint
        self._taint = taint
        return {"log": lines, "log_complete": complete, "taint": new}

    def _read_lines(self) -> tuple[list[list[Any]], bool]:
        if self._log is None:
            return [], False
        lines: list[list[Any]] = []
        complete = True
        while True:
            try:
                record = os.read(self._log, RECORD)
            except BlockingIOError:
                return lines, complete
            except BrokenPipeError:  # records were overwritten before they could be read
                complete = False
                continue
            except OSError:
                return lines, False
            line = parse(record)
            if line is None:
                complete = False
            else:
                lines.append(line)

    def _read_taint(self) -> int:
        if self._tainted is None:
            return 0
        return int(os.pread(self._tainted, 64, 0))


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
