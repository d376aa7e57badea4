# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log and the taint word, read in windows that leave no gap."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
RECORD = 8192
"""The kernel's own limit on one record (CONSOLE_EXT_LOG_MAX); a smaller buffer would get EINVAL."""
MARK = 200
"""Characters of a mark; the kernel refuses a line of more than about a thousand."""

LINES = 10_000
TEXT = 1 << 20
"""Lines and characters kept of one window. A kernel may log more, but the first lines matter most, and the search for
reports takes a millisecond for each line."""


def parse(record: bytes) -> list[Any] | None:
    """Turn a `/dev/kmsg` record into [sequence, level, microseconds, text]; None if it is invalid."""
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
    """The kernel log since the last window."""

    def __init__(self, path: str = "/dev/kmsg", tainted: str = "/proc/sys/kernel/tainted") -> None:
        self._log = _open(path)
        self._writer = _open(path, os.O_WRONLY)
        self._tainted = _open(tainted)
        self._count = 0
        self._mark = ""
        self._taint = self._read_taint()

    def begin(self, what: str) -> None:
        """Begin a window with a mark in the log; earlier records belong to no window."""
        self._count += 1
        self._mark = f"conform: begin {self._count}: {what}"[:MARK].rstrip()
        self._write(self._mark)

    def window(self) -> dict[str, Any]:
        """End the window that was begun, if any, and return what is new since the last one.

        `before` holds the records above its mark, `log` those below, both without marks; `log_complete` is False
        if records were lost, and `taint` has the new bits.
        """
        end = f"conform: end {self._count}"
        if self._mark:
            self._write(end)
        lines, complete, dropped = self._read_lines()
        marks = [self._mark, end] if self._mark else []
        # A kernel that limits logging by user space (printk.devkmsg) drops marks: then the window has all records.
        start = next((number for number, line in enumerate(lines) if line[3] in marks[:1]), 0)
        self._mark = ""
        taint = self._read_taint()
        new = taint & ~self._taint
        self._taint = taint
        log = [line for line in lines[start:] if line[3] not in marks]
        optional = {"dropped": dropped} if dropped else {}
        return {"before": lines[:start], "log": log, "log_complete": complete, "taint": new, **optional}

    def _read_lines(self) -> tuple[list[list[Any]], bool, int]:
        """Return the first new lines, whether they are complete, and the number of dropped ones."""
        if self._log is None:
            return [], False, 0
        lines: list[list[Any]] = []
        complete = True
        dropped, left = 0, TEXT
        while True:
            try:
                record = os.read(self._log, RECORD)
            except BlockingIOError:
                return lines, complete, dropped
            except BrokenPipeError:  # records were overwritten before they could be read
                complete = False
                continue
            except OSError:
                return lines, False, dropped
            line = parse(record)
            if line is None:
                complete = False
                continue
            left -= len(line[3])
            if len(lines) < LINES and left >= 0:
                lines.append(line)
            else:
                dropped += 1
                complete = False

    def _write(self, mark: str) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                # Debug, so the console does not print it. Without its newline the kernel would keep it from
                # readers until the next record: something might follow in the same line.
                os.write(self._writer, f"<7>{mark}\n".encode())

    def _read_taint(self) -> int:
        if self._tainted is None:
            return 0
        return int(os.pread(self._tainted, 64, 0))


class Unread:
    """Reads no kernel log, so no case can pass: for measuring the cost of reading it."""

    def begin(self, what: str) -> None:
        """Do nothing."""

    def window(self) -> dict[str, Any]:
        """Return an incomplete, empty window."""
        return {"log_complete": False}


def _open(path: str, mode: int = os.O_RDONLY) -> int | None:
    try:
        return os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
