# SPDX-License-Identifier: GPL-2.0-only
"""A thread that is blocked in one system call, and the names of poll(2) events.

Whether the thread is blocked is observed, not guessed: /proc says that it sleeps in a system call with the expected
first argument. So the test needs no deadline, and does not take a slow thread for a sleeping one.
"""

from __future__ import annotations

import ctypes
import select
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from conformance.guestlib import procfs
from conformance.guestlib.answers import error_name, wait_until

WAITS: Final = "waits"
"""The answer of a thread that is still blocked."""

_EVENTS = {
    select.POLLIN: "in",
    select.POLLOUT: "out",
    select.POLLERR: "err",
    select.POLLHUP: "hup",
    select.POLLRDHUP: "rdhup",
}
_PATIENCE = 2.0
"""Seconds within which a thread enters its system call, or returns from it."""


class Waiter:
    """A thread in one system call."""

    def __init__(self, call: Callable[[], int], first: int, describe: Callable[[int], str]) -> None:
        """Start a thread for `call`, whose system call has `first` as first argument; `describe` words its result."""
        self._call, self._first, self._describe = call, first, describe
        self._answer = ""
        self._id = 0
        # A signal that interrupts the call and is then ignored.
        signal.signal(signal.SIGUSR2, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR2, True)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.rest()

    def answer(self) -> str:
        """Return the result, or `WAITS`."""
        self.rest()
        return self._answer or WAITS

    def rest(self) -> None:
        """Wait until the thread has its answer, or sleeps."""
        if not wait_until(lambda: self._answer or self._asleep(), _PATIENCE, partial(time.sleep, 0.0002)):
            raise TimeoutError("a thread neither waits nor comes back")

    def end(self) -> None:
        """Interrupt the thread; TimeoutError if it does not end."""
        if not wait_until(lambda: not self._thread.is_alive(), _PATIENCE, self._interrupt):
            raise TimeoutError("a thread cannot be interrupted")

    def _interrupt(self) -> None:
        signal.pthread_kill(self._thread.ident or 0, signal.SIGUSR2)
        self._thread.join(0.002)

    def _run(self) -> None:
        self._id = threading.get_native_id()
        result = self._call()
        self._answer = self._describe(result) if result >= 0 else error_name(ctypes.get_errno())

    def _asleep(self) -> bool:
        words = procfs.read(f"/proc/self/task/{self._id}/syscall").split() if self._id else []
        return len(words) > 1 and words[0] != "-1" and int(words[1], 16) == self._first


def event_names(mask: int) -> str:
    """Name events of poll(2)."""
    return " ".join(name for bit, name in _EVENTS.items() if mask & bit) or "nothing"
