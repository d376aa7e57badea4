# SPDX-License-Identifier: GPL-2.0-only
"""A user's own defaults: `$XDG_CONFIG_HOME/sockmap-conformance/config.toml`, which the command line overrides.

    color = "never"                  # for every command that has the option --color

    [run]                            # for `./conform run`
    kernel = ["debian:6.12", "~/linux"]
    total-deadline = "2h"
    trace = true

A key is the name of an option without its dashes. A list gives the option several times, and `true` gives an option
without a value. The current directory is not searched for settings: it may be a foreign kernel tree.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import infile
from common.errors import UsageError
from conformance.command_line.parser import Parser

Parse = Callable[[Sequence[str]], argparse.Namespace]

_HINT = "a key is an option of a command without its dashes: conformance/command_line/settings.py"


def path() -> Path:
    """Return the path of the file, if there is one; a relative path if the user's home is unknown."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The base directory specification: a relative path is invalid and to be ignored.
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.config"))
    return base / "sockmap-conformance" / "config.toml"


def applied(arguments: Sequence[str], parse: Parse, commands: Mapping[str, Parser]) -> list[str]:
    """Insert the user's defaults after the command; UsageError names the file and the wrong key.

    `parse` reads a command line. A run that is resumed has the options that it was started with.
    """
    given = list(arguments)
    if not given or given[0] not in commands:
        return given
    values = _read(path(), commands)
    command = given[0]
    chosen = {key: value for key, value in values.items() if not isinstance(value, dict)} | values.get(command, {})
    own = given[: given.index("--")] if "--" in given else given
    if not chosen or any(each in ("-h", "--help") or each.startswith("--resume") for each in own):
        return given
    options = parse(given)
    added: list[str] = []
    for key, value in chosen.items():
        names = commands[command].same_destination(_option(key))
        decided = any(each == name or each.startswith(_beginning(name)) for name in names for each in own)
        if names and not decided and not (key == "kernel" and getattr(options, "conform_kernel", None)):
            added += _arguments(_option(key), value)
    try:
        parse([command, *added, *given[1:]])
    except UsageError as error:
        raise UsageError(f"{path()}: {error}", hint=error.hint) from error
    return [command, *added, *given[1:]]


def _read(file: Path, commands: Mapping[str, Parser]) -> dict[str, Any]:
    if not file.is_absolute():
        return {}
    try:
        values = infile.toml(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        hint = "it holds your defaults; remove it"
        if isinstance(error, PermissionError):
            hint = "it holds your defaults; set HOME or XDG_CONFIG_HOME to a folder of this user"
        raise UsageError(f"cannot read {file}: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{file} is not TOML: {error}", hint=_HINT) from error
    for key, value in values.items():
        tables = [key] if isinstance(value, dict) else list(commands)
        for name in value if isinstance(value, dict) else (key,):
            if not any(each in commands and commands[each].same_destination(_option(name)) for each in tables):
                where = f"[{key}] has" if isinstance(value, dict) else "no command has"
                raise UsageError(f"{file}: {where} the unknown key {name!r}", hint=_HINT)
            _check_value(file, name, value[name] if isinstance(value, dict) else value)
    return values


def _check_value(file: Path, key: str, value: Any) -> None:
    """Raise UsageError for a value that the option does not take, and for an option that only prints help."""
    if key in ("h", "help"):
        raise UsageError(f"{file}: {key!r} cannot be a default", hint="remove it")
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, str | int | float):
            raise UsageError(f"{file}: {key!r} is a string, a number, true, false or a list of these", hint=_HINT)


def _option(key: str) -> str:
    return f"--{key}" if len(key) > 1 else f"-{key}"


def _beginning(name: str) -> str:
    """Return the beginning of an argument that joins an option and its value, such as `-k`."""
    return f"{name}=" if name.startswith("--") else name


def _arguments(option: str, value: Any) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if each is True:
            yield option
        elif each == "":
            yield from (option, each)
        elif each is not False:
            yield f"{option}={each}" if option.startswith("--") else f"{option}{each}"
