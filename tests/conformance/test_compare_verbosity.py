# SPDX-License-Identifier: GPL-2.0-only
"""How much `compare` and `shell` say, with -v and with -q."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common import say
from conformance import cli
from conformance.commands import compare, shell
from conformance.compare.sides import Subject
from conformance.compare.text import brief_lines, comparison_lines
from conformance.groups import cases
from conformance.report.live import Reporter
from tests.conformance import report_runs
from tests.conformance.test_compare_text import compared
from tests.conformance.test_report_live import play
from tests.conformance.test_reporting import write
from vm.machine import CallStatus, LogLine, Reply


@pytest.fixture
def compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Return a command that compares a kernel, which is judged now, with the results of an older one."""
    folder = write(report_runs.old(), tmp_path / "old")
    log = folder / "events.jsonl"
    log.write_bytes(
        b"".join(line for line in log.read_bytes().splitlines(keepends=True) if b'"event":"finish"' not in line)
    )
    monkeypatch.chdir(tmp_path)

    def judged(spec: str, options: argparse.Namespace, results: Path | None, reporter: Reporter) -> list[Subject]:
        run = report_runs.healthy()
        play(run, reporter)
        return [Subject(run, slug, None) for slug in run.slugs]

    monkeypatch.setattr(compare, "judged_now", judged)

    def command(*options: str) -> tuple[str, str]:
        capsys.readouterr()
        cli.main(["compare", "old", "debian:6.12", *options])
        printed = capsys.readouterr()
        return printed.out, printed.err

    return command


def test_a_comparison(compares: Callable[..., tuple[str, str]]) -> None:
    """-v tells each case's verdict, -q neither progress nor what is not a regression; warnings stay."""
    (usual, progress), (verbose, more), (quiet, less) = (compares(*options) for options in ((), ("-v",), ("-q",)))

    assert usual.partition("results:")[0] == verbose.partition("results:")[0]
    assert len(more.splitlines()) > len(progress.splitlines()) + 700
    assert "making the template" in progress
    assert 0 < len(quiet.splitlines()) < len(usual.splitlines())
    assert "results: conform-results/" in quiet
    assert all("this run was interrupted" in said for said in (progress, more, less))
    assert len(less.splitlines()) <= 3, less


@pytest.mark.parametrize(
    ("options", "code", "said"), [((), 125, "the tree {} is not built"), (("-k", "nosuch"), 128, "no case matches")]
)
def test_both_kernels_are_there_before_one_is_judged(
    options: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A patch that does not apply must not be noticed after base was judged; a selection without a case comes first."""
    for side in ("base", "head"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "Makefile").touch()
        (tmp_path / side / "Kconfig").touch()
    judged: list[object] = []

    def judge(*asked: object) -> list[object]:
        judged.append(asked)
        return []

    monkeypatch.setattr(compare, "judged_now", judge)
    monkeypatch.chdir(tmp_path)

    assert cli.main(["compare", "./base", "./head", *options]) == code
    assert said.format(tmp_path / "head") in capsys.readouterr().err
    assert judged == []


def test_a_quiet_comparison_tells_regressions() -> None:
    """The reasons for exit code 1 are printed in full; fixes and the identity of the kernels are not."""
    whole, brief = comparison_lines(compared()), brief_lines(compared())
    first = next(number for number, line in enumerate(whole) if "REGRESSIONS" in line)

    assert "base debian:6.12" in "\n".join(whole)
    assert "base debian:6.12" not in "\n".join(brief)
    assert not [line for line in brief if "FIXES" in line]
    assert brief[-3:] == whole[first:][: len(brief) - brief.index(whole[first])][-3:]


@pytest.mark.parametrize("said", [(), (LogLine(1, 4, 1, "WARNING: x"),)])
@pytest.mark.parametrize("verbosity", [0, -1])
def test_a_case_that_is_set_up(verbosity: int, said: tuple[LogLine, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """With -q only what the kernel logged, and a case that could not be set up, are worth a word."""
    progress = say.note if verbosity >= 0 else say.hush
    reply = Reply(status=CallStatus.ANSWERED, value=None, error="", log=said)

    shell._say_state(cases()[0], reply, progress)
    assert bool(capsys.readouterr().err) is (verbosity >= 0 or bool(said))

    shell._say_state(cases()[0], replace(reply, error="OSError: planted"), progress)
    assert "planted" in capsys.readouterr().err
