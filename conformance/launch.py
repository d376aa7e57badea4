# SPDX-License-Identifier: GPL-2.0-only
"""From `./conform` to the command itself, at once when nothing is missing.

What is imported here is imported on every start, before the virtual environment's own Python starts: `os` and `sys`.
"""

from __future__ import annotations

import os
import sys

from conformance.host.environment import Environment
from conformance.host.packages import missing

BROKEN = 128
"""common.errors.ExitCode.BROKEN, without the import of enum."""


def launch(root: str, arguments: list[str]) -> int:
    """Set up what the command needs, then become it; returns an exit code where it cannot."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where an older Python is told so
        print(f"conform: Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}", file=sys.stderr)
        return BROKEN
    arguments = _take_no_install(arguments)
    if not arguments:
        print("conform: no command\n  hint: `./conform run` judges a kernel, --help tells the rest", file=sys.stderr)
        return BROKEN
    command = arguments[0]
    environment = Environment(root)
    stale = environment.stale(command)
    if command in ("doctor", "--help", "-h"):
        # The doctor comes before the cure, and help before everything: both make do with the standard library.
        if stale:
            from conformance.cli import main

            return main(arguments)
    elif stale or missing(arguments):
        from conformance.cli import parse
        from conformance.host.setup import prepare

        code = prepare(environment, arguments, parse)
        if code is not None:
            return code
    return _become(environment, command, arguments)


def _become(environment: Environment, command: str, arguments: list[str]) -> int:
    module = ["conformance.host.checks", *arguments[1:]] if command == "test" else ["conformance", *arguments]
    # Nothing is imported from the current directory: it may be a kernel tree that holds an argparse.py. PYTHONPATH may
    # name it too, by "." or by nothing between two colons.
    for name in ("PYTHONPATH", "PYTHONHOME"):
        os.environ.pop(name, None)
    os.environ["PYTHONSAFEPATH"] = "1"
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        # Compiling three hundred modules takes a second on each start. So bytecode is kept, but not beside the source.
        os.environ["PYTHONPYCACHEPREFIX"] = environment.bytecode
    os.execv(environment.python, [environment.python, "-P", "-m", *module])


def _take_no_install(arguments: list[str]) -> list[str]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = [argument for argument in arguments[:end] if argument != "--no-install"]
    if len(own) < end:
        os.environ["CONFORM_NO_INSTALL"] = "1"
    return own + arguments[end:]
