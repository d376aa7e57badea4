# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor (QMP): commands in, answers and events out."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

ANSWER_SECONDS = 30.0


class QmpError(Exception):
    """QEMU refused a command, does not answer, or is gone."""


class Monitor:
    """One connection; commands are answered in the order in which they were given."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._owed = 0
        self._value: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        """Events that QEMU has sent and that were read."""
        self._answered = False

    def post(
        self, execute: str, arguments: Mapping[str, Any] | None = None, *, descriptors: Sequence[int] = ()
    ) -> None:
        """Send a command without waiting; the next `execute` raises its failure."""
        message = json.dumps({"execute": execute, "arguments": arguments or {}}).encode()
        self._owed += 1
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the waiting thread notices its exit
            self._connection.settimeout(ANSWER_SECONDS)
            socket.send_fds(self._connection, [message], descriptors)

    def execute(
        self,
        execute: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        descriptors: Sequence[int] = (),
        patience: float = ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """Send a command and return its answer; QmpError if it or an earlier posted one failed, or on a timeout."""
        self.post(execute, arguments, descriptors=descriptors)
        end = time.monotonic() + patience
        while self._owed:
            self._read(max(0.001, end - time.monotonic()))
        return self._value

    def listen(self) -> None:
        """Read all pending messages."""
        with contextlib.suppress(QmpError):
            while True:
                self._read(0.0)

    def shutdown_reason(self) -> str:
        """Return why the guest is no longer running, in QMP's words (`guest-reset`), or nothing."""
        self.listen()
        reasons = [event["data"].get("reason", "") for event in self.events if event["event"] == "SHUTDOWN"]
        return str(reasons[-1]) if reasons else ""

    @property
    def answered(self) -> bool:
        """Whether QEMU has ever answered a command: it answers only after it has set up the machine."""
        self.listen()
        return self._answered

    def fileno(self) -> int:
        """Return the connection's descriptor, for poll."""
        return self._connection.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read(self, patience: float) -> None:
        self._connection.settimeout(patience)
        try:
            chunk = self._connection.recv(65536)
        except OSError as error:
            raise QmpError(f"the monitor does not answer: {error}") from error
        if not chunk:
            raise QmpError("QEMU is gone")
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.events.append(message)
        elif "error" in message:
            self._answered = True
            self._owed -= 1
            raise QmpError(message["error"]["desc"])
        elif "return" in message:
            self._answered = True
            self._owed -= 1
            self._value = dict(message["return"]) if isinstance(message["return"], dict) else {}
