# SPDX-License-Identifier: GPL-2.0-only
"""The only error hierarchy: a sentence that names the culprit, a hint what to do, an exit code."""

from __future__ import annotations

import errno
import os
import sys
from enum import IntEnum

from common import foreign
from common.program import here
from common.streams import discard


class ExitCode(IntEnum):
    """Exit codes fit for `git bisect run`: 1-127 judge the commit, 125 skips it, 128 and above stop."""

    OK = 0
    UNEXPECTED = 1
    CANNOT_JUDGE = 125
    BROKEN = 128
    HUNG_UP = 129
    INTERRUPTED = 130
    UNREAD = 141
    """The reader of standard output went away: the status that a shell gives a process killed by SIGPIPE."""
    TERMINATED = 143


class ConformError(Exception):
    """An error the user can fix: `str(error)` is one sentence, `hint` says what to do next."""

    exit_code = ExitCode.BROKEN

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.hint))


def _rebuild(kind: type[ConformError], sentence: str, hint: str) -> ConformError:
    return kind(sentence, hint=hint)


class UsageError(ConformError):
    """The command line, or a file the user wrote, is wrong."""


class HostError(ConformError):
    """This machine lacks something: a package, a permission, disk space, the archive."""


class KernelError(ConformError):
    """This kernel cannot be judged: not a kernel, not built, cannot boot, lacks what every case needs."""

    exit_code = ExitCode.CANNOT_JUDGE


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where it arrived, so that everything ends the way it does after Ctrl-C."""


class HungUp(KeyboardInterrupt):
    """SIGHUP, raised where it arrived: the terminal was closed, or the ssh connection was lost."""


class UnreadError(BrokenPipeError):
    """The reader of standard output or standard error went away, as `head` does."""


class DeadlinePassed(KeyboardInterrupt):
    """The run's total deadline has passed, raised wherever it was then."""


def interruption(error: BaseException) -> ExitCode | None:
    """Return the exit code of a command that a signal ended; None for any other exception."""
    # By the type itself: pytest's own stops are KeyboardInterrupts, too.
    return _SIGNALS.get(type(error))


_SIGNALS: dict[type[BaseException], ExitCode] = {
    KeyboardInterrupt: ExitCode.INTERRUPTED,
    Terminated: ExitCode.TERMINATED,
    HungUp: ExitCode.HUNG_UP,
}

INTERRUPTIONS = frozenset(_SIGNALS.values())
"""The exit codes of a command that a signal ended."""

_LIMITS = {
    errno.EMFILE: "look at `ulimit -n`",
    errno.ENFILE: "look at `sysctl fs.file-max`",
    errno.ENOMEM: "look at `ulimit -v`, at the memory of the machine and of its cgroup",
    errno.EAGAIN: "look at `ulimit -u`, and for processes without end",
}
"""What a system call says when the host has no more of something, and what to do."""


def exhausted(error: BaseException) -> HostError | None:
    """Return the error for a limit of the host that was hit anywhere; None for any other error."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if not isinstance(error, OSError | MemoryError) or number not in _LIMITS:
        return None
    return HostError(f"this host has no more to give: {os.strerror(number)}", hint=_LIMITS[number])


def print_error(error: ConformError) -> None:
    """Print an error as its sentence and its hint."""
    try:
        print(f"conform: {lines_of(error)}", file=sys.stderr, flush=True)
    except OSError:  # with standard error full or gone, the exit code is all there is to say
        discard(sys.stderr.fileno())


def lines_of(error: ConformError) -> str:
    """Return an error's sentence and its hint, each on one line whatever is quoted in it."""
    return foreign.line(str(error)) + (f"\n  hint: {foreign.line(here(error.hint))}" if error.hint else "")
