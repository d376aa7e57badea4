# SPDX-License-Identifier: GPL-2.0-only
"""Let SIGTERM and SIGHUP end a command the way Ctrl-C does: machines stopped, log closed, temporary files removed."""

from __future__ import annotations

import signal
from types import FrameType

from common.errors import HungUp, Terminated

_ERRORS = {signal.SIGTERM: Terminated, signal.SIGHUP: HungUp}


def raise_on_signals() -> None:
    """Raise Terminated for SIGTERM, and HungUp for SIGHUP, in the main thread.

    A signal that is ignored stays ignored: nohup(1) starts commands so.
    """
    for number in _ERRORS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def restore_signals() -> None:
    """Let SIGTERM and SIGHUP end the process at once again."""
    for number in _ERRORS:
        if signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise _ERRORS[signal.Signals(number)]
