# SPDX-License-Identifier: GPL-2.0-only
"""How the user calls this program, so that a command that is printed works when it is pasted.

Everything that is stored (event logs, evidence, pages) has the neutral form, `./conform`: it is read elsewhere.
"""

from __future__ import annotations

import functools
import os
import re

NEUTRAL = "./conform"
VARIABLE = "CONFORM_STARTED_AS"
"""The environment variable with the path that the shell started. The launcher sets it, or the installed `conform`."""

_NAMED = re.compile(r"(?<![\w./~-])\./conform(?![\w./-])")


def program(*, anywhere: bool = False) -> str:
    """Return what the shell calls this program by in the current directory, or in any directory, as a word to paste."""
    return _program(os.environ.get(VARIABLE, ""), os.getcwd(), anywhere=anywhere)


def here(text: str, called: str = "") -> str:
    """Return text of ours with the commands in it as the user would type them, or with this name for the program."""
    return _NAMED.sub(lambda _: called or program(), text) if NEUTRAL in text else text


@functools.cache
def _program(started: str, folder: str, *, anywhere: bool) -> str:
    if not os.path.isfile(started) or not f"{folder}{started}".isprintable():
        return NEUTRAL
    name = os.path.basename(started)
    if not anywhere and not os.path.isabs(started):
        return _quoted(started if "/" in started else f"./{started}")
    path = os.path.join(folder, started)
    if _is_in_path(name, path):
        return _quoted(name)
    beside = os.path.relpath(path, folder)
    if not anywhere and not beside.startswith(".."):
        return _quoted(f"./{beside}")
    path = os.path.normpath(path)
    home = os.path.expanduser("~")
    if os.path.isabs(home) and home != "/" and path.startswith(f"{home}/"):
        return f"~/{_quoted(path[len(home) + 1 :])}"
    return _quoted(path)


def _is_in_path(name: str, path: str) -> bool:
    import shutil

    found = shutil.which(name)
    return found is not None and os.path.isabs(found) and os.path.samefile(found, path)


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)
