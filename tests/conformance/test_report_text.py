# SPDX-License-Identifier: GPL-2.0-only
"""The text report: the same for the same run, on 80 columns, in colour or plain, and safe to print."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import replace

import pytest

from conformance.model import Verdict
from conformance.report.event_types import FinishEvent
from conformance.report.events import Run
from conformance.report.style import Style
from conformance.report.text import report_lines, verdict_lines
from tests.conformance import report_runs

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("name", report_runs.RUNS)
def test_reports_look_as_agreed(name: str) -> None:
    """Each run's report equals the reviewed one (see report_runs.GOLDEN)."""
    golden = (report_runs.GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert "\n".join(report_lines(report_runs.RUNS[name]())) + "\n" == golden


def test_what_was_not_judged_is_no_success() -> None:
    """A run that only skipped, or missed a case, does not end with success."""
    run = report_runs.healthy()
    cases = run.cases["debian-6.12"]
    skipped = replace(run, cases={"debian-6.12": [replace(case, verdict=Verdict.SKIP) for case in cases]})
    assert verdict_lines(skipped)[0].startswith("Nothing was judged.")
    cut = replace(run, cases={"debian-6.12": cases[:-1]})
    assert verdict_lines(cut)[0].startswith("1 case never ran.")


@pytest.mark.parametrize("name", report_runs.RUNS)
def test_colour_changes_nothing_but_colour(name: str) -> None:
    """A coloured report without its colours equals the plain one, and the plain one has no escapes."""
    run = report_runs.RUNS[name]()
    plain, coloured = report_lines(run), report_lines(run, Style(colour=True))
    assert [COLOUR.sub("", line) for line in coloured] == plain
    assert coloured != plain
    assert not any("\x1b" in line for line in plain)


@pytest.mark.parametrize("name", report_runs.RUNS)
def test_ascii_takes_the_same_room(name: str) -> None:
    """On an ASCII terminal the report is pure ASCII, with the same lines of the same width."""
    run = report_runs.RUNS[name]()
    plain = report_lines(run, Style(unicode=False))
    assert all(line.isascii() for line in plain)
    assert [len(line) for line in plain] == [len(line) for line in report_lines(run)]


def hostile() -> Run:
    """Add to a run with failures: long names everywhere, and a console with terminal escapes."""
    run = report_runs.sick()
    long = "/home/someone/" + "very-long-name-of-a-tree-" * 5 + "linux"
    words = "It cannot be told in few words why this machine is what it is, and so it is told in many of them. " * 3
    kernel = replace(
        run.kernels["debian-6.12"],
        spec=long,
        release="6.12.107-" + "x" * 64,
        banner=f"Linux version 6.12 ({long}) #1 {words}",
        package={"path": long, "suite": "bookworm"},
        why=words,
        notes=(words, long),
        error=words + long,
        hint=words,
    )
    run.kernels["debian-6.12"] = kernel
    run.cases["debian-6.12"] = [
        case
        if case.verdict.expected
        else replace(case, console=f"\x1b[2J\x1b]0;gone\x07{long}\r\n\tœ\u202e{words}", reason=words, observed=long)
        for case in run.cases["debian-6.12"]
    ]
    run.finish = FinishEvent(exit_code=1, seconds=123456.7)
    return run


@pytest.mark.parametrize("make", [*report_runs.RUNS.values(), hostile])
@pytest.mark.parametrize("style", [Style(), Style(colour=True), Style(unicode=False)])
def test_no_line_is_wider_than_a_mail(make: object, style: Style) -> None:
    """No line has more than 80 columns, trailing blanks or control characters."""
    assert callable(make)
    for line in report_lines(make(), style):
        bare = COLOUR.sub("", line)
        assert len(bare) <= 80
        assert bare.isprintable()
        assert bare == bare.rstrip()


def test_every_unexpected_case_is_listed_once() -> None:
    """However many cases share an explanation, each is there by its id, and what they share is said once.

    Here it is twice: of 24 that were dropped 22 should have been delivered, and 2 should have circulated.
    """
    run = report_runs.families_differ()
    lines = report_lines(run)
    for case in run.unexpected():
        assert sum(line.strip() == case.id for line in lines) == 1
    assert sum("observed  dropped" in line for line in lines) == 2


def test_the_repeat_command_can_be_pasted() -> None:
    """The folded command is, to a shell, the command of the event, quotes and all."""
    run = report_runs.sick()
    cases = run.cases["debian-6.12"]
    index = next(number for number, case in enumerate(cases) if case.verdict is Verdict.FAIL)
    command = "./conform run --append 'a  b \"c\"' --machine=cold --kernel debian:6.12 -k " + cases[index].name
    cases[index] = replace(cases[index], repeat=command)
    text = "\n".join(report_lines(run))
    found = re.findall(r"repeat    ((?:.*\\\n)*.*)", text)[1]
    assert "\\\n" in found
    assert shlex.split(found.replace("\\\n", " ")) == shlex.split(command)


def test_a_splat_is_shown_from_its_title_on() -> None:
    """A kernel log is shown from its first report on."""
    lines = report_lines(report_runs.sick())
    at = next(number for number, line in enumerate(lines) if line.startswith("   kernel log"))
    assert lines[at + 1].strip().startswith("WARNING: CPU: 0 PID: 99 at net/core/skmsg.c:690")


def finished(run: Run, **changes: object) -> Run:
    """Change how a run ended."""
    assert run.finish is not None
    run.finish = replace(run.finish, **changes)  # type: ignore[arg-type]
    return run


def test_the_last_line_is_the_verdict() -> None:
    """The last line has the verdict of the run in words and numbers."""
    assert report_lines(report_runs.healthy())[-1] == "Nothing unexpected. 736 cases: 736 pass, 14.2 s"
    assert report_lines(report_runs.families_differ())[-1] == "24 UNEXPECTED. 736 cases: 712 pass, 24 fail, 14.2 s"
    assert " ".join(verdict_lines(report_runs.sick())).startswith("3 UNEXPECTED, debian:5.10 could not be judged. 736 ")


def test_an_interrupted_run_says_so() -> None:
    """An interrupted or killed run says that it is incomplete."""
    run = finished(report_runs.healthy(), exit_code=130, interrupted=True)
    del run.cases["debian-6.12"][300:]
    assert report_lines(run)[-1] == "Interrupted, nothing unexpected so far. 300 of 736 cases: 300 pass, 14.2 s"
    assert "   436  debian:6.12" in report_lines(run)
    run.finish = None
    assert report_lines(run)[-1] == "Interrupted, nothing unexpected so far. 300 of 736 cases: 300 pass"


def test_a_kernel_that_was_not_judged_is_never_fine() -> None:
    """A kernel without a machine, infrastructure trouble and an empty run are not `nothing unexpected`."""
    dead = replace(report_runs.KERNEL_5_10, machine="", error="it does not boot")
    assert verdict_lines(report_runs.finished((dead, [])))[0].startswith("debian:5.10 could not be judged.")
    run = report_runs.healthy()
    run.cases["debian-6.12"][0] = replace(run.cases["debian-6.12"][0], verdict=Verdict.INFRA)
    assert verdict_lines(run)[0].startswith("1 case could not be judged.")
    assert verdict_lines(report_runs.finished())[0].startswith("Nothing was judged.")


def test_other_groups_are_counted() -> None:
    """Cases without a grid are counted by group."""
    run = report_runs.healthy()
    run.add(replace(run.cases["debian-6.12"][0], group="insert", name="x", id="insert/x"))
    assert "insert     1     1     -    -          -" in report_lines(run)


def test_style_follows_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour needs a terminal and NO_COLOR unset; Unicode needs an encoding that has it."""

    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Style.of(Terminal(io.BytesIO(), encoding="utf-8")) == Style(colour=True, unicode=True)
    assert Style.of(Terminal(io.BytesIO(), encoding="latin-1")) == Style(colour=True, unicode=False)
    assert Style.of(io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == Style(colour=False, unicode=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert Style.of(Terminal(io.BytesIO(), encoding="utf-8")) == Style(colour=False, unicode=True)
