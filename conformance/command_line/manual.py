# SPDX-License-Identifier: GPL-2.0-only
"""The manual page, made from the parser: `./conform manual | man -l -`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from conformance import __version__
from conformance.command_line.parser import Parser


def manual(parser: Parser, commands: Mapping[str, Parser]) -> str:
    """Return the page for man(7): the help of the command, and of each of its commands."""
    return "".join(f"{line}\n" for line in _lines(parser, commands))


def _lines(parser: Parser, commands: Mapping[str, Parser]) -> Iterator[str]:
    yield f'.TH CONFORM 1 "" "sockmap-conformance {__version__}" "User Commands"'
    yield ".SH NAME"
    yield rf"conform \- {_escaped(parser.description or '')}"
    yield ".SH SYNOPSIS"
    yield ".B conform"
    yield r"\fICOMMAND\fR [\fIOPTION\fR]..."
    yield ".SH DESCRIPTION"
    yield from _verbatim(parser.format_help())
    yield ".SH COMMANDS"
    for name, command in commands.items():
        yield f'.SS "conform {name}"'
        yield from _verbatim(command.format_help())
    yield ".SH FILES"
    yield ".TP"
    yield r"\fI$XDG_CONFIG_HOME/sockmap\-conformance/config.toml\fR"
    yield "Defaults of options; the command line overrides them."
    yield ".TP"
    yield r"\fI$XDG_CACHE_HOME/sockmap\-conformance\fR"
    yield "Kernels and templates; see `conform kernels prune`."


def _verbatim(text: str) -> Iterator[str]:
    """Yield text that is neither filled nor read as requests."""
    yield ".nf"
    for line in text.splitlines():
        # A line that begins with a dot or a quote would be a request.
        yield rf"\&{_escaped(line)}" if line.startswith((".", "'")) else _escaped(line)
    yield ".fi"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
