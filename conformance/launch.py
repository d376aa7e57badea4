# SPDX-License-Identifier: GPL-2.0-only
"""Start the command of `./conform`, after setting up what is missing.

What is imported here is imported on every start, before the virtual environment's own Python starts: `os` and `sys`.
"""

from __future__ import annotations

import os
import sys

from common.streams import fill
from conformance.host.environment import Environment
from conformance.host.packages import missing

BROKEN = 128
"""common.errors.ExitCode.BROKEN, without the import of enum."""


def launch(root: str, arguments: list[str]) -> int:
    """Set up what the command needs, then replace this process by it; returns an exit code if that fails."""
    fill()
    # common.program.VARIABLE. The project's own tests compare what is printed with what is stored.
    os.environ["CONFORM_STARTED_AS"] = "" if arguments[:1] == ["test"] else sys.argv[0]
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where the user of an older Python gets a message
        print(f"conform: Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}", file=sys.stderr)
        return BROKEN
    arguments = _take(arguments)
    environment = Environment(root)
    if "_ARGCOMPLETE" in os.environ:
        # A shell asks for completions; before anything is installed there are none.
        return BROKEN if environment.stale("") else _become(environment, "", arguments)
    if not arguments:
        hint = f"`{sys.argv[0]} run` tests a kernel; see {sys.argv[0]} --help"
        print(f"conform: no command\n  hint: {hint}", file=sys.stderr)
        return BROKEN
    command = arguments[0]
    stale = environment.stale(command)
    if command in ("doctor", "--help", "-h", "--version"):
        # `doctor` and `--help` work without a set-up: they need only the standard library.
        if stale:
            from conformance.cli import main

            return main(arguments)
    elif stale or missing(arguments):
        from conformance.cli import checked
        from conformance.host.setup import prepare

        code = prepare(environment, arguments, checked)
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
    # Without a buffer, Python drops what a write(2) did not take: a reader that goes away after 64 KiB is not noticed.
    os.environ.pop("PYTHONUNBUFFERED", None)
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        # Compiling three hundred modules takes a second on each start. So bytecode is kept, but not beside the source.
        os.environ["PYTHONPYCACHEPREFIX"] = environment.bytecode
    os.execv(environment.python, [environment.python, "-P", "-m", *module])


def _take(arguments: list[str]) -> list[str]:
    """Return the arguments without those for the set-up, which it reads from the environment."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    # `kernels prune` deletes: it must not take --yes from the environment.
    taken = {"--no-install": "CONFORM_NO_INSTALL"} | ({"--yes": "CONFORM_YES"} if arguments[:1] != ["kernels"] else {})
    for option in taken.keys() & set(arguments[:end]):
        os.environ[taken[option]] = "1"
    return [argument for argument in arguments[:end] if argument not in taken] + arguments[end:]
