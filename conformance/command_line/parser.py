# SPDX-License-Identifier: GPL-2.0-only
"""The conventions of the command line: one-sentence errors, suggestions for misspelt words, and types of values.

Imported by Debian's own Python before anything is installed, so it uses only the standard library.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from common.errors import UsageError
from common.program import here
from common.say import put
from common.values import WORKERS

EXIT_CODES = """\
exit codes, fit for `git bisect run`:
  0        nothing unexpected
  1        at least one unexpected result
  125      a kernel, a case or a shard could not be judged, or the deadline passed before all were
  128      wrong usage, or a broken host
  129, 130, 143  interrupted by SIGHUP, SIGINT, SIGTERM
  141      the reader of the output, e.g. `| head`, closed the pipe before the verdict
If several apply, 1 is returned before 128, and 128 before 125.
"""

_MAY_BE_EMPTY = ("EXPRESSION", "GLOB", "STRING")
"""Metavars of values that may be empty, or whose own check refuses an empty one."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UsageErrors; options cannot be abbreviated, so a new one breaks no old command."""

    def __init__(self, *, examples: str = "", exits: bool = False, **more: Any) -> None:
        """Take, beside argparse's arguments, lines of examples, and whether the exit codes are those of a run."""
        shown = "".join(f"  {here(line.strip())}\n" for line in examples.strip().splitlines())
        parts = [f"examples:\n{shown}"] * bool(shown) + [EXIT_CODES] * exits
        settings: dict[str, Any] = {
            "formatter_class": argparse.RawDescriptionHelpFormatter,
            "epilog": "\n".join(parts) or None,
            "allow_abbrev": False,
        }
        super().__init__(**settings, **more)

    def error(self, message: str) -> NoReturn:
        """Raise the error as a UsageError."""
        raise UsageError(message, hint=f"see {self.prog} --help")

    def refuse(self, extra: list[str], commands: Mapping[str, Parser]) -> NoReturn:
        """Raise UsageError for unknown arguments, with the option that was probably meant.

        `commands` are the parsers of all commands, by their names: the option may be one of another.
        """
        name = extra[0].partition("=")[0]
        near = _near(name, self._option_string_actions) if name.startswith("-") else ""
        hint = f"did you mean {near}? " if near else ""
        others = [other for other, parser in commands.items() if parser.same_destination(name)]
        hint = f"{name} is an option of {', '.join(others)}; " if others else hint
        raise UsageError(f"unrecognized arguments: {' '.join(extra)}", hint=f"{hint}see {self.prog} --help")

    def same_destination(self, name: str) -> list[str]:
        """Return all options with the same destination as this one; none if the option is unknown."""
        action = self._option_string_actions.get(name)
        return [each for each, other in self._option_string_actions.items() if action and other.dest == action.dest]

    def _print_message(self, message: str, file: object = None) -> None:
        put(message.splitlines(), sys.stdout)

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        """Refuse an empty value: in a script it is a variable that was never set."""
        of_commands = action.nargs in (argparse.PARSER, argparse.REMAINDER)
        if not text and not of_commands and action.metavar not in _MAY_BE_EMPTY:
            raise argparse.ArgumentError(action, "must not be empty")
        return super()._get_value(action, text)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is none of the choices, with the one that was probably meant."""
        if action.choices is None or value in action.choices:
            return
        known = [str(each) for each in action.choices]
        near = _near(str(value), known)
        hint = f"did you mean {near}? " if near else ""
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - there is no public name
            raise UsageError(f"there is no command {value!r}", hint=f"{hint}see {self.prog} --help")
        name = "/".join(action.option_strings) or action.metavar or action.dest
        raise UsageError(f"argument {name}: invalid choice: {value!r}", hint=f"{hint}choose from {', '.join(known)}")


def add_colour(parser: argparse.ArgumentParser) -> None:
    """Declare the option --color."""
    parser.add_argument(
        "--color", choices=["auto", "always", "never"],
        help="colour the output; auto (default): on a terminal, unless NO_COLOR is set; FORCE_COLOR means always",
    )  # fmt: skip


def obey_colour(colour: str | None) -> None:
    """Make --color override the environment, for this process and its children."""
    for name, choice in (("NO_COLOR", "never"), ("FORCE_COLOR", "always")):
        if colour is not None:
            os.environ.pop(name, None)
        if colour == choice:
            os.environ[name] = "1"


def workers(text: str) -> str:
    """Read the number of workers, as pytest-xdist takes it."""
    return text if text in ("auto", "logical") else str(WORKERS(text))


def _near(word: str, known: Iterable[str]) -> str:
    bare = {each.lstrip("-"): each for each in known}
    return next((bare[each] for each in get_close_matches(word.lstrip("-"), list(bare), 1)), "")
