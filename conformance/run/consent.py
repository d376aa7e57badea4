# SPDX-License-Identifier: GPL-2.0-only
"""Ask before something that cannot be undone: a question on a terminal, --yes elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from common.errors import ConformError, UsageError
from common.say import note

YES = "CONFORM_YES"
"""Set by the launcher where the command line has --yes."""


class DeclinedError(ConformError):
    """The user was asked and said no."""


def for_host(specs: Iterable[str], *, yes: bool) -> None:
    """Ask for consent to test the running kernel, if it is among the kernels; raises ConformError without it."""
    if "host" in specs:
        ask(
            "`host` is the kernel that this machine is running; a defect may hang or crash the machine",
            "Test it?",
            yes=yes,
        )


def ask(sentence: str, question: str, *, yes: bool) -> None:
    """Return if the answer is yes; DeclinedError if it is no, UsageError without a terminal."""
    if yes or os.environ.get(YES, "") not in ("", "0"):
        return
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(sentence, hint="add --yes if that is what you want")
    note(f"conform: {sentence}")
    note(f"{question} [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise DeclinedError("nothing was done", hint="--yes answers the question")
