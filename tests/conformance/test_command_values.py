# SPDX-License-Identifier: GPL-2.0-only
"""Values on the command line without a meaning, or with a surprising one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import ExitCode, UsageError
from conformance import cli
from conformance.command_line.arguments import top
from conformance.command_line.parser import Parser
from conformance.report.events import NAME
from tests.conformance import report_runs
from tests.conformance.conform import conform
from tests.conformance.test_reporting import write


def _valued(parser: Parser, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], argparse.Action]]:
    """Yield each action of a parser that takes a value, with the words of its command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _valued(below, (*words, name))
        elif action.nargs not in (0, argparse.REMAINDER):
            yield words, action


class TestEmpty:
    """`--output "$UNSET"` is a mistake, and never the current directory."""

    def test_of_every_option(self) -> None:
        """Every option with a value refuses an empty one, except a kernel command line, a pattern or an expression."""
        seen = 0
        for words, action in _valued(top("")[0], ()):
            if action.metavar in ("GLOB", "STRING", "EXPRESSION"):
                continue
            value = ["--", ""] if not action.option_strings else [action.option_strings[-1], ""]
            with pytest.raises(UsageError) as refused:
                top("")[0].parse_args([*words, *["x"] * (action.dest == "head"), *value])
            name = "/".join(action.option_strings) or action.metavar or action.dest
            assert str(refused.value) == f"argument {name}: must not be empty"
            seen += 1
        assert seen > 80

    def test_where_it_means_something(self) -> None:
        """An empty --append and an empty expression stay valid."""
        options = cli.parse(["run", "--append", "", "-k", ""])

        assert (options.conform_append, options.k) == ("", "")

    def test_nothing_is_written(self, tmp_path: Path) -> None:
        """A merge that was to go nowhere is wrong usage, and leaves the current directory as it was."""
        log = write(report_runs.old(), tmp_path / "log")
        here = tmp_path / "here"
        here.mkdir()

        done = conform("merge", str(log), "--output", "", cwd=here)

        assert done.returncode == ExitCode.BROKEN
        assert done.stderr.splitlines() == [
            "conform: argument --output: must not be empty", "  hint: see ./conform merge --help",
        ]  # fmt: skip
        assert not list(here.iterdir())


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "lost"])
@pytest.mark.parametrize("side", ["base", "head"])
def test_a_comparison_with_a_log_that_is_none(
    kind: str, side: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A results folder whose log cannot be read is wrong usage; it is not a kernel that a bisection may skip."""
    good = write(report_runs.old(), tmp_path / "good")
    log = tmp_path / "bad" / NAME
    log.parent.mkdir()
    match kind:
        case "pipe":
            os.mkfifo(log)
        case "device":
            log.symlink_to("/dev/zero")
        case "folder":
            (log / "x").mkdir(parents=True)
        case "lost":
            log.symlink_to("nowhere")
    sides = [str(log.parent), str(good)]

    code = cli.main(["compare", *(sides if side == "base" else sides[::-1])])

    assert code == ExitCode.BROKEN
    assert f"conform: cannot read the event log {log}" in capsys.readouterr().err.replace(f"{log}/{NAME}", str(log))
