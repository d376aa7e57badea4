# SPDX-License-Identifier: GPL-2.0-only
"""The live view of a run, on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from conformance.model import Verdict
from conformance.report.events import Run
from conformance.report.live import LiveReporter, PlainReporter, Reporter, choose
from conformance.report.screen import RunProgress, announcement, screen
from conformance.report.style import Style
from conformance.report.text import report_lines
from tests.conformance import report_runs
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def play(run: Run, reporter: Reporter) -> None:
    """Let a reporter watch a run."""
    reporter.note("debian:6.12: making the template")
    reporter.start(run.start, report_runs.planned_for(run))
    for slug, kernel in run.kernels.items():
        reporter.kernel(kernel)
        for case in run.cases.get(slug, ()):
            reporter.case(case)
    reporter.finish(run)


@contextmanager
def terminal(columns: int = 80, rows: int = 50) -> Iterator[tuple[TextIO, list[bytes]]]:
    """Open a terminal; the list has its output once the context is left."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    written: list[bytes] = []

    def collect() -> None:
        try:
            while data := os.read(master, 65536):
                written.append(data)
        except OSError:  # EIO: the other end is closed
            pass

    reader = threading.Thread(target=collect)
    reader.start()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as stream:
            yield stream, written
    finally:
        reader.join()
        os.close(master)


def test_plain_lines_show_progress_and_unexpected_cases_at_once() -> None:
    """Without a terminal there is a line for each kernel, each tenth of the way and each unexpected case."""
    stream = io.StringIO()
    run = report_runs.sick()
    play(run, PlainReporter(stream))
    text = stream.getvalue()
    assert text.startswith("debian:6.12: making the template\ndebian:6.12: 6.12.107+deb12-amd64, clone under tcg\n")
    assert len(re.findall(r"^debian:6.12: \d+ of 736 cases, ", text, re.MULTILINE)) == 10
    assert text.index("SPLAT debian:6.12 redirect/sockmap-send-to-local-tcp4-udp4") < text.index(" 368 of 736 cases")
    assert text.endswith("\n".join(report_lines(run)) + "\n")
    assert "\x1b" not in text


def test_few_of_many_unexpected_cases_are_shown_at_once() -> None:
    """A kernel on which everything fails does not flood the terminal before the report."""
    stream = io.StringIO()
    run = report_runs.healthy()
    run.cases = {
        slug: [replace(case, verdict=Verdict.FAIL, observed="other") for case in cases]
        for slug, cases in run.cases.items()
    }
    play(run, PlainReporter(stream))
    before = stream.getvalue().partition("SOCKMAP conformance:")[0]
    assert before.count("FAIL debian:6.12") == 20
    assert before.count("More cases are unexpected") == 1


def replay(written: str) -> list[str]:
    """Return what a terminal shows in the end, with scrolled-off lines; fails on an unknown escape sequence."""
    lines, row, column = [""], 0, 0
    for mark, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", written):
        if text:
            lines[row] = lines[row][:column] + text + lines[row][column + len(text) :]
            column += len(text)
        elif mark == "\r":
            column = 0
        elif mark == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif mark[-1] == "A":
            row -= int(mark[2:-1])
        elif mark == "\x1b[2K":
            lines[row] = ""
        elif mark == "\x1b[K":
            lines[row] = lines[row][:column]
        elif mark == "\x1b[J":
            lines[row:] = [lines[row][:column]]
        else:
            assert mark[-1] == "m", mark
    return lines


@pytest.mark.parametrize("name", report_runs.RUNS)
def test_the_screen_makes_way_for_the_report(name: str) -> None:
    """The terminal ends with notes, announcements and the report; the live screen is gone, all modes are as before."""
    run = report_runs.RUNS[name]()
    announced = [
        line for number, case in enumerate(run.unexpected(), 1) for line in announcement(run, case, number, Style())
    ]
    with terminal() as (stream, written):
        modes = termios.tcgetattr(stream.fileno())
        play(run, LiveReporter(stream))
        assert termios.tcgetattr(stream.fileno()) == modes
    shown = replay(b"".join(written).decode())
    assert shown == ["debian:6.12: making the template", *announced, *report_lines(run), ""]


def test_unexpected_cases_appear_above_the_screen() -> None:
    """An unexpected case is shown at once, above the redrawn screen."""
    run = report_runs.sick()
    with terminal() as (stream, written):
        reporter = LiveReporter(stream)
        reporter.start(run.start, report_runs.planned_for(run))
        reporter.kernel(run.kernels["debian-6.12"])
        for case in run.unexpected():
            reporter.case(case)
    shown = replay(b"".join(written).decode())
    assert [line.split()[0] for line in shown if line.startswith(("SPLAT", "FAIL", "HANG"))] == [
        "SPLAT",
        "FAIL",
        "HANG",
    ]
    assert sum("UNEXPECTED" in line and "/736" in line for line in shown) == 1
    assert "3 of 736 cases" in shown[-2]


def test_nothing_of_a_tall_screen_is_left_below_a_short_report() -> None:
    """The screen is erased also where the report does not cover it."""
    run, short = report_runs.healthy(), report_runs.finished()
    with terminal() as (stream, written):
        reporter = LiveReporter(stream)
        reporter.start(run.start, report_runs.planned_for(run))
        for case in run.cases["debian-6.12"][:300]:
            reporter.case(case)
        reporter.note("now")
        reporter.finish(short)
    text = b"".join(written).decode()
    assert "ingress-to-egress" in text
    assert replay(text) == ["now", *report_lines(short), ""]


@pytest.mark.parametrize("name", report_runs.RUNS)
@pytest.mark.parametrize(("columns", "rows"), [(80, 50), (80, 24), (120, 60), (79, 50), (40, 10), (20, 3), (1, 1)])
def test_the_screen_fits_the_terminal(name: str, columns: int, rows: int) -> None:
    """Whatever the terminal's size and however far the run is, the screen leaves one line free and none too wide."""
    run = report_runs.RUNS[name]()
    whole, planned = dict(run.cases), report_runs.planned_for(run)
    for done in (0, 1, 300, 736):
        run.cases = {slug: cases[:done] for slug, cases in whole.items()}
        lines = screen(run, RunProgress(75.0, 12.0, planned), columns, rows, Style())
        assert len(lines) <= max(1, rows - 1)
        assert all(len(line) <= columns for line in lines)


def test_the_screen_shows_the_grids_where_they_fit() -> None:
    """At 80 by 50 all four grids, their extra rows and the legend are there; at 80 by 24 the grids alone."""
    run = report_runs.healthy()
    state = RunProgress(75.0, None, report_runs.planned_for(run))
    run.cases["debian-6.12"] = run.cases["debian-6.12"][:300]
    large, small = (screen(run, state, 80, rows, Style()) for rows in (50, 24))
    assert "same_map" in "\n".join(large)
    assert "not run yet" in "\n".join(large)
    assert "ingress-to-local" in "\n".join(small)
    assert "same_map" not in "\n".join(small)
    assert any(re.search("300/736", line) for line in large)
    assert large[-1] == "1:15  300 of 736 cases"


def test_the_grids_do_not_grow_while_they_fill() -> None:
    """However few cases were chosen, their grids have their size from the first case on."""
    run = report_runs.healthy()
    chosen = [case for case in run.cases["debian-6.12"] if "sockhash-send-to-local-udp" in case.name]
    run.cases["debian-6.12"] = chosen
    state = RunProgress(planned=report_runs.planned_for(run))
    heights = set()
    for done in (1, 9, len(chosen)):
        run.cases["debian-6.12"] = chosen[:done]
        part = screen(run, state, 80, 50, Style())
        assert "send-to-local, sockhash" in "\n".join(part)
        heights.add(len([line for line in part if "not run yet" not in line]))
    assert len(heights) == 1


def test_the_view_stays_with_one_kernel_until_it_is_done() -> None:
    """With kernels side by side the grids shown are those of the first that is under way."""
    run = report_runs.finished(
        (report_runs.KERNEL_6_12, report_runs.passing(report_runs.KERNEL_6_12, report_runs.observe_6_12)),
        (report_runs.KERNEL_5_10, report_runs.passing(report_runs.KERNEL_5_10, report_runs.observe_5_10)),
    )
    whole = dict(run.cases)
    for done, spec in ((735, "debian:6.12"), (736, "debian:5.10")):
        run.cases = {"debian-6.12": whole["debian-6.12"][:done], "debian-5.10": whole["debian-5.10"][:100]}
        assert f" {spec} " in screen(run, RunProgress(), 80, 50, Style())[0]


@pytest.mark.parametrize("kind", [PlainReporter, LiveReporter])
def test_a_reporter_never_raises(kind: type[PlainReporter | LiveReporter]) -> None:
    """A closed stream or an early event raises nothing."""
    with terminal() as (stream, _):
        reporter = kind(stream)
    run = report_runs.healthy()
    reporter.case(run.cases["debian-6.12"][0])
    play(run, reporter)


def test_a_reader_who_leaves_does_not_change_the_exit_code() -> None:
    """`conform run | head -1` exits as the run did, without a word on stderr."""
    script = (
        "import sys\n"
        "from conformance.report.live import choose\n"
        "from tests.conformance.test_report_live import play\n"
        "from tests.conformance import report_runs\n"
        "sys.stdin.read()\n"
        "play(report_runs.sick(), choose(sys.stdout))\n"
        "sys.exit(3)\n"
    )
    # fmt: off
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # fmt: on
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(b"")
    assert (process.returncode, errors) == (3, b"")


@pytest.mark.parametrize(
    ("term", "ci", "kind"),
    [("xterm", None, LiveReporter), ("dumb", None, PlainReporter), ("xterm", "true", PlainReporter)],
)
def test_the_stream_chooses(monkeypatch: pytest.MonkeyPatch, term: str, ci: str | None, kind: type[object]) -> None:
    """Only a capable terminal outside CI gets the screen."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("CI", raising=False)
    if ci:
        monkeypatch.setenv("CI", ci)
    with terminal() as (stream, _):
        assert isinstance(choose(stream), kind)
    assert isinstance(choose(io.StringIO()), PlainReporter)


def test_each_verdict_is_shown_with_v() -> None:
    """With -v every case has a line, in a pipe and above the screen of a terminal."""
    run = report_runs.sick()
    stream = io.StringIO()
    play(run, choose(stream, verbosity=1))
    ids = [case.id for case in run.cases["debian-6.12"]]
    lines = [line.split() for line in stream.getvalue().partition("SOCKMAP conformance:")[0].splitlines()]
    assert [words[2] for words in lines if words[:2] in (["pass", "debian:6.12"], ["fail", "debian:6.12"])] != []
    assert [words[2] for words in lines if words[1:2] == ["debian:6.12"] and words[-1:] == ["s"]] == ids
    with terminal() as (screen_of, written):
        play(run, LiveReporter(screen_of, verbose=True))
    shown = replay(b"".join(written).decode())
    assert all(any(f" {name} " in line for line in shown) for name in ids[:20])


def test_nothing_is_printed_before_the_end_with_q() -> None:
    """With -q only the report is printed."""
    stream = io.StringIO()
    play(report_runs.sick(), choose(stream, lambda run, style: ["the end"], verbosity=-1))
    assert stream.getvalue() == "the end\n"


def test_what_the_run_does_is_shown_at_every_moment() -> None:
    """Before the first case it is a phase, later the case that has been running for longest."""
    run = report_runs.sick()
    with terminal(columns=60) as (stream, written):
        reporter = LiveReporter(stream)
        reporter.phase("collecting 16072 cases")
        assert replay(b"".join(written).decode() or "0:00  collecting 16072 cases")[0] == "0:00  collecting 16072 cases"
        reporter.start(run.start, report_runs.planned_for(run))
        case = run.cases["debian-6.12"][0]
        reporter.begun("debian-6.12", case.id)
        reporter.note("now")
        shown = _settled(written, "running")
        assert any(line == f"running {case.id}" for line in shown)
        assert not any("collecting" in line for line in shown)
        assert all(len(line) <= 60 for line in shown)
        reporter.case(case)
        reporter.note("then")
        assert not any(line.startswith("running") for line in _settled(written, "then"))


def _settled(written: list[bytes], word: str) -> list[str]:
    """Return what the terminal shows once a word is there."""
    wait_until(lambda: word in b"".join(written).decode(), f"{word} is shown")
    return replay(b"".join(written).decode())


def test_how_long_the_longest_case_runs() -> None:
    """Its id is cut at the front where it is too long: neighbours differ at the end."""
    run = report_runs.healthy()
    name = f"teardown/{'x' * 60}-both-passed"
    *_, running, total = screen(run, RunProgress(9.0, None, {}, (name, 12.3)), 60, 50, Style())
    assert running.startswith("running …xxx")
    assert running.endswith("-both-passed for 12 s")
    assert len(running) == 60
    assert total.endswith("cases")


def test_a_terminal_that_becomes_narrower() -> None:
    """The terminal folds lines that no longer fit, and the next screen overwrites all of them."""
    run = report_runs.healthy()
    with terminal(columns=120) as (stream, written):
        reporter = LiveReporter(stream)
        reporter.start(run.start, report_runs.planned_for(run))
        for case in run.cases["debian-6.12"][:100]:
            reporter.case(case)
        reporter.note("wide")
        fcntl.ioctl(stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 50, 50, 0, 0))
        wide = reporter._drawn
        reporter.note("narrow")
    ups = [int(each) for each in re.findall(r"\x1b\[(\d+)A", b"".join(written).decode())]
    folded = sum(max(1, -(-width // 50)) for width in wide)
    assert folded > len(wide)
    assert folded in ups


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")
@pytest.mark.parametrize("columns", [59, 50, 40, 70])
def test_a_real_terminal_is_resized(columns: int, tmp_path: Path) -> None:
    """After a resize nothing of the old screen is left: tmux folds also what was erased behind a shorter line."""
    go, script = tmp_path / "go", tmp_path / "play.py"
    os.mkfifo(go)
    script.write_text(
        "import sys\n"
        "from conformance.report.live import LiveReporter\n"
        "from tests.conformance import report_runs\n"
        "run = report_runs.healthy()\n"
        "reporter = LiveReporter(sys.stdout)\n"
        "reporter.start(run.start, {})\n"
        "reporter.begun('debian-6.12', 'redirect/' + 'x' * 60)\n"
        "reporter.note('a note')\n"
        "reporter.case(run.cases['debian-6.12'][0])\n"
        "reporter._running.clear()\n"
        "reporter.begun('debian-6.12', 'redirect/short')\n"
        "reporter.note('wide')\n"
        f"open({os.fspath(go)!r}).read()\n"
        "reporter.note('resized')\n"
        f"open({os.fspath(go)!r}).read()\n"
    )
    socket = ["tmux", "-L", f"conform-{os.getpid()}-{columns}", "-f", "/dev/null"]
    command = f"exec env -u CI PYTHONPATH={ROOT} TERM=screen {sys.executable} {script}"

    def shown() -> list[str]:
        page = subprocess.run(
            [*socket, "capture-pane", "-p", "-S", "-"], capture_output=True, text=True, check=True
        ).stdout
        return [line for line in page.splitlines() if line]

    subprocess.run([*socket, "new-session", "-d", "-x", "60", "-y", "20", command], check=True)
    try:
        wait_until(lambda: any("short" in line for line in shown()), "the screen is there")
        subprocess.run([*socket, "resize-window", "-x", str(columns), "-y", "20"], check=True)
        go.write_text("")
        wait_until(lambda: "resized" in shown(), "it is drawn again")
        lines = shown()
    finally:
        subprocess.run([*socket, "kill-server"], check=False)
    assert lines[:3] == ["a note", "wide", "resized"]
    assert sum("debian-6.12 " in line or "debian:6.12 " in line for line in lines) == 1
    assert sum("running" in line for line in lines) == 1
    assert len(lines) == 6


def test_a_narrow_terminal_folds_no_line() -> None:
    """Notes and unexpected cases above the screen are as narrow as the terminal, but for ids, which are pasted."""
    run = report_runs.sick()
    with terminal(columns=60) as (stream, written):
        reporter = LiveReporter(stream)
        reporter.start(run.start, report_runs.planned_for(run))
        reporter.note("a step takes long " * 9)
        for case in run.unexpected():
            reporter.case(case)
        shown = _settled(written, "step")
    lines = [line for line in shown if "/" not in line]
    assert len(lines) > 6
    assert max(map(len, lines)) <= 60


def test_a_resumed_run_begins_where_it_was() -> None:
    """Cases judged before the interruption are shown at once, not announced again, and cost no time."""
    run = report_runs.sick()
    before = replace(run, cases={slug: cases[:500] for slug, cases in run.cases.items()})
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    reporter.start(run.start, report_runs.planned_for(run), before)
    assert stream.getvalue() == ""
    for case in run.cases["debian-6.12"][500:600]:
        reporter.case(case)
    lines = [line for line in stream.getvalue().splitlines() if " of 736 cases" in line]
    assert lines[0].startswith("debian:6.12: 516 of 736 cases")
