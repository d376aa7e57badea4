# SPDX-License-Identifier: GPL-2.0-only
"""Standard streams that this process was started without (`2>&-`): the next file it opens would get their descriptor.

Imported by the launcher, so it imports only `os` and `sys`.
"""

from __future__ import annotations

import os
import sys


def fill() -> None:
    """Open /dev/null in place of each standard stream that is closed, for this process and those that it starts."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def discard(number: int) -> None:
    """Let everything that is written to a descriptor vanish from now on, also what Python still holds in a buffer.

    Python would fail to write it again at exit, and exit with 120.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), number)
