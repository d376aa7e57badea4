# SPDX-License-Identifier: GPL-2.0-only
"""`./conform test`: the project's own checks, the quickest first."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from common.errors import ConformError, ExitCode, UnreadError, UsageError, interruption, print_error
from common.say import guarded, put_bytes, say
from common.signals import raise_on_signals

ROOT = Path(__file__).parents[2]
_NO_TESTS = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One command; its tool is the one beside the running Python, so `.venv` and tox each use their own."""

    group: str
    name: str
    command: tuple[str, ...]
    is_pytest: bool = False
    is_shown: bool = False
    """Whether its output is shown although it succeeds."""


CHECKS = (
    Check("lint", "ruff check", ("ruff", "check")),
    Check("lint", "ruff format", ("ruff", "format", "--check")),
    Check("lint", "import-linter", ("lint-imports",)),
    Check("types", "mypy", ("mypy",)),
    Check("tests", "pytest, no machines", ("pytest", "-n", "auto", "-m", "not vm"), is_pytest=True),
    Check("machines", "pytest, machines", ("pytest", "-n", "auto", "-m", "vm"), is_pytest=True),
    # Names what became slower, and does not fail for it: a shared machine is slow at times.
    Check("speed", "benchmark", ("python", "-m", "conformance", "benchmark", "--quick", "--runs=1"), is_shown=True),
)
GROUPS = tuple(dict.fromkeys(check.group for check in CHECKS))


@dataclass(frozen=True, slots=True)
class CheckSelection:
    """The checks that the user asked for."""

    groups: frozenset[str]
    pytest_arguments: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see {self.prog} --help")


def parse(arguments: Sequence[str]) -> CheckSelection:
    """Read the command line; what follows `--` is for pytest."""
    own = list(arguments)
    at = own.index("--") if "--" in own else len(own)
    parser = _Parser(
        prog="./conform test",
        description="Run the project's own tests and checks.",
        epilog="Arguments after -- go to pytest.",
    )
    parser.add_argument("group", nargs="*", metavar="GROUP", help=f"run only these: {', '.join(GROUPS)} (default: all)")
    parser.add_argument(
        "--fast", action="store_true", help="run neither the tests that boot machines nor the benchmark"
    )
    parser.add_argument("--no-install", action="store_true", help="never install a package; name what is missing")
    options = parser.parse_args(own[:at])
    if unknown := set(options.group) - set(GROUPS):
        raise UsageError(
            f"there is no group of checks named {min(unknown)}", hint=f"the groups are {', '.join(GROUPS)}"
        )
    groups = set(options.group or GROUPS) - ({"machines", "speed"} if options.fast else set())
    chosen = tuple(own[at + 1 :])
    if chosen and not options.group:
        groups.discard("speed")  # arguments for pytest select tests: run nothing else
    return CheckSelection(frozenset(groups), chosen)


def run(choice: CheckSelection) -> int:
    """Run the chosen checks, one line each; stops at the first that fails and returns its verdict as an exit code."""
    tested = False
    for check in (check for check in CHECKS if check.group in choice.groups):
        command = [*_located(check.command), *(choice.pytest_arguments if check.is_pytest else ())]
        started = time.monotonic()
        code = _watched(command, quiet=not (check.is_pytest or check.is_shown))
        # Arguments may select tests of one group only, but some test must run.
        empty = check.is_pytest and code == _NO_TESTS and bool(choice.pytest_arguments)
        tested = tested or (check.is_pytest and not empty)
        passed = code == 0 or empty
        say(f"{'ok    ' if passed else 'FAILED'} {check.name:<22} {time.monotonic() - started:6.1f} s")
        if not passed:
            return int(ExitCode.UNEXPECTED)
    if choice.pytest_arguments and not tested:
        say("FAILED nothing was tested: no test matches the arguments")
        return int(ExitCode.UNEXPECTED)
    return int(ExitCode.OK)


def _located(command: Sequence[str]) -> list[str]:
    tool, *arguments = command
    beside = Path(sys.executable).with_name(tool)
    return [str(beside), *arguments]


def _watched(command: Sequence[str], *, quiet: bool) -> int:
    """Run a command; `quiet` shows what it printed only if it failed. It dies with this process."""
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    ) as process:
        try:
            printed, _ = process.communicate()
        except BaseException:
            process.terminate()
            raise
    if quiet and process.returncode:
        put_bytes(printed, sys.stdout)
    return process.returncode


def main(arguments: Sequence[str]) -> int:
    """Run the checks that `arguments` name and return an exit code."""
    raise_on_signals()
    try:
        with guarded():  # --help is printed by argparse
            choice = parse(arguments)
        return run(choice)
    except ConformError as error:
        print_error(error)
        return int(error.exit_code)
    except UnreadError:
        return int(ExitCode.UNREAD)
    except KeyboardInterrupt as error:
        return int(interruption(error) or ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
