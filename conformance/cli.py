# SPDX-License-Identifier: GPL-2.0-only
"""The `conform` command: its arguments, and what each subcommand does."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence

from common import streams
from common.errors import ConformError, ExitCode, UnreadError, exhausted, interruption, print_error
from common.say import put
from common.signals import raise_on_signals
from conformance import __version__
from conformance.command_line import settings
from conformance.command_line.parser import Parser, obey_colour

COMMANDS = {
    "shell": "commands.shell:shell",
    "explain": "commands.explain:explain",
    "defects": "commands.defects:list_defects",
    "list": "commands.list:list_cases",
    "report": "commands.report:report",
    "compare": "commands.compare:compare",
    "config": "commands.matrix:config",
    "history": "commands.history:history",
    "merge": "commands.merge:merge",
    "kernels": "commands.kernels:kernels",
    "boundaries": "commands.boundaries:list_boundaries",
    "teeth": "commands.teeth:teeth",
    "doctor": "host.doctor:doctor",
    "benchmark": "commands.benchmark:benchmark",
    "completion": "commands.completion:completion",
}
"""The function of each command, below `conformance`; it takes the options and returns an exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; every error is one sentence and a hint on stderr."""
    raise_on_signals()
    streams.fill()
    try:
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(_parsers()[0])
        given = settings.applied(sys.argv[1:] if arguments is None else arguments, parse, _parsers()[1])
        if arguments is None:
            sys.argv[1:] = given  # for the event log: the command line with the user's defaults
        options = parse(given)
        obey_colour(getattr(options, "color", None))
        return int(_dispatch(options))
    except ConformError as error:
        print_error(error)
        return int(error.exit_code)
    except KeyboardInterrupt as error:
        return int(interruption(error) or ExitCode.INTERRUPTED)
    except UnreadError:
        return int(ExitCode.UNREAD)
    except Exception as error:
        if (limit := exhausted(error)) is not None:
            print_error(limit)
            return int(limit.exit_code)
        return _keep_traceback(error)


def _keep_traceback(error: Exception) -> int:
    """Write the traceback of an internal error to a file and name the file."""
    with tempfile.NamedTemporaryFile("w", prefix="conform-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    sentence = f"internal error: {type(error).__name__}: {error}"
    print_error(ConformError(sentence, hint=f"please report it with {file.name}"))
    return int(ExitCode.BROKEN)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what follows `--` is kept for pytest, or is what `shell` runs."""
    own, rest = _split(arguments)
    parser, commands = _parsers(_version() if "--version" in own[:1] else "")
    options, extra = parser.parse_known_args(own)
    if options.command == "run":
        # argparse does not accept a positional argument after options.
        kernels = [*options.kernels, *(each for each in extra if not each.startswith("-"))]
        extra = [each for each in extra if each.startswith("-")]
        options.conform_kernel = [*(options.conform_kernel or ()), *kernels] or None
        del options.kernels
    if extra:
        commands[options.command].refuse(extra, commands)
    if rest and options.command not in ("run", "shell", "compare", "test"):
        commands[options.command].refuse(["--", *rest], commands)
    options.pytest_arguments = rest
    return options


def checked(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line and look up its kernels: a missing kernel is an error before packages are installed."""
    options = parse(arguments)
    specs = [*(getattr(options, "conform_kernel", None) or ()), *getattr(options, "spec", ())]
    if options.command == "compare":
        specs += [each for each in (options.base, options.head) if not os.path.exists(each)]
    if specs:
        from kernels.resolve import find_commit

        for spec in specs:
            find_commit(spec)
    return options


@functools.cache
def _parsers(version: str = "") -> tuple[Parser, Mapping[str, Parser]]:
    from conformance.command_line.arguments import top

    return top(version)


def _version() -> str:
    from conformance.run.provenance import suite_commit

    return f"sockmap-conformance {__version__} ({suite_commit() or 'of an unknown commit'})"


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    listed = list(arguments)
    if "--" not in listed:
        return listed, []
    at = listed.index("--")
    return listed[:at], listed[at + 1 :]


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "run":
        return _run(options)
    if options.command == "matrix":
        from conformance.commands.matrix import matrix

        return matrix(options, parse)
    if options.command == "test":
        from conformance.host import checks

        return checks.main([*options.arguments, *["--"] * bool(options.pytest_arguments), *options.pytest_arguments])
    if options.command == "manual":
        from conformance.command_line.manual import manual

        put(manual(*_parsers()).splitlines(), sys.stdout)
        return int(ExitCode.OK)
    module, _, name = COMMANDS[options.command].partition(":")
    return int(getattr(importlib.import_module(f"conformance.{module}"), name)(options))


def _run(options: argparse.Namespace) -> int:
    if not options.resume:
        from conformance.run.options import chosen_of

        # Before the imports of a run, which take as long again.
        chosen_of(options)
    from conformance.commands.run import run

    return run(options, parse)
