# SPDX-License-Identifier: GPL-2.0-only
"""`conform report`: one log or several, in every format, to a file or to standard output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance import cli
from conformance.model import Verdict
from conformance.report.events import NAME, Run, encode
from conformance.report.formats import FORMATS
from conformance.report.merge import merged
from conformance.report.text import report_lines
from tests.conformance import report_runs


def write(run: Run, directory: Path) -> Path:
    """Write a run's event log into a directory."""
    directory.mkdir(exist_ok=True)
    events = [run.start]
    for slug in run.slugs:
        events += [run.kernel(slug), *run.cases.get(slug, ())]  # type: ignore[list-item]
    events += [run.finish] if run.finish else []  # type: ignore[list-item]
    (directory / NAME).write_text("".join(f"{encode(event)}\n" for event in events))
    return directory


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_log_gives_the_same_report(name: str) -> None:
    """A report depends on the log alone, ends its last line, and there is one for an empty run too."""
    for run in (report_runs.sick(), report_runs.finished()):
        text = FORMATS[name].render(run)
        assert text.endswith("\n")
        assert text == FORMATS[name].render(run)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"text", "html"}))
def test_reports_of_a_real_run_look_as_agreed(name: str) -> None:
    """Each format without its own tests renders a run with every kind of failure as agreed."""
    golden = (report_runs.GOLDEN / f"planted.{name}").read_text(encoding="utf-8")
    assert FORMATS[name].render(report_runs.planted()) == golden


@pytest.mark.parametrize("name", FORMATS)
def test_a_report_goes_where_it_is_sent(name: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Standard output and --output get the same bytes, and nothing else is written anywhere."""
    log = write(report_runs.sick(), tmp_path / "log")
    assert cli.main(["report", str(log), "--format", name]) == 0
    printed = capsysbinary.readouterr().out
    assert cli.main(["report", str(log), "--format", name, "--output", str(tmp_path / "report")]) == 0
    assert capsysbinary.readouterr().out == b""
    assert (tmp_path / "report").read_bytes() == printed == FORMATS[name].render(report_runs.sick()).encode()
    assert {path.name for path in tmp_path.iterdir()} == {"log", "report"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nowhere",), "cannot read the event log nowhere: No such file or directory"),
        (("empty",), "cannot read the event log empty/events.jsonl: No such file or directory"),
        (("torn",), "torn/events.jsonl, line 1: the log does not begin with a `run` event"),
        (("log", "--format", "pdf"), "argument --format: invalid choice: 'pdf'"),
        (("log", "--output", "empty"), "cannot write the report empty: Is a directory"),
        (("log", "--output", "nowhere/report"), "cannot write the report nowhere/report: No such file or directory"),
        (("log", "--open", "--format", "junit"), "--open writes the web page, and --format asks for junit"),
        (("log", "--open", "--output", "-"), "--open cannot open standard output"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    arguments: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A folder without a log, a log cut within its first line, a wrong format or target: a sentence and a hint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    torn = write(report_runs.old(), tmp_path / "torn") / NAME
    torn.write_text(torn.read_text()[:40])
    write(report_runs.old(), tmp_path / "log")
    assert cli.main(["report", *arguments]) == 128
    said, hint = capsys.readouterr().err.splitlines()
    assert said.startswith(f"conform: {sentence}")
    assert hint.startswith("  hint: ")
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "torn", "log"}


def test_a_torn_last_line_costs_that_line_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log of a run that was killed while it wrote is reported up to there, as interrupted."""
    log = write(report_runs.old(), tmp_path / "log") / NAME
    log.write_text(log.read_text()[:-10])
    assert cli.main(["report", str(log)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Interrupted, nothing unexpected so far. 736 cases:")


def test_shards_of_a_kernel_are_one_kernel() -> None:
    """Two halves of a run give the same report as the whole run, except for the seconds."""
    whole = report_runs.sick()
    halves = []
    for half in (slice(0, 400), slice(400, None)):
        cases = {slug: cases[half] for slug, cases in whole.cases.items()}
        counts = {slug: len(cases.get(slug, ())) for slug in whole.start.selected}
        halves.append(replace(whole, start=replace(whole.start, selected=counts), cases=cases))
    assert merged(halves).unseen() == 0
    assert report_lines(merged(halves))[:-1] == report_lines(whole)[:-1]
    assert merged(halves[::-1]).counts() == whole.counts()


def test_two_kernels_of_one_name_stay_two() -> None:
    """Where two logs mean different kernels by one slug, none of the cases is lost or mixed up."""
    one, other = report_runs.old(), report_runs.healthy()
    disguised = replace(other.kernels["debian-6.12"], slug="debian-5.10", digest="77" * 32)
    cases = [replace(case, kernel="debian-5.10") for case in other.cases["debian-6.12"]]
    run = merged([one, report_runs.finished((disguised, cases))])
    assert list(run.kernels) == ["debian-5.10", "debian-5.10.2"]
    assert [len(cases) for cases in run.cases.values()] == [736, 736]
    run = merged([one, one, other])
    assert list(run.kernels) == ["debian-5.10", "debian-6.12"]


def test_a_case_judged_twice_counts_once_as_the_worse() -> None:
    """A later log does not replace an unexpected verdict by an expected one."""
    good, bad = report_runs.healthy(), report_runs.sick()
    assert good.kernels["debian-6.12"].digest == bad.kernels["debian-6.12"].digest
    for runs in ([good, bad], [bad, good]):
        run = merged(runs)
        assert sum(run.counts("debian-6.12").values()) == 736
        assert {case.id for case in run.unexpected()} == {case.id for case in bad.unexpected()}
        assert run.finish is not None
        assert run.finish.exit_code == 1
    bad.finish = None
    assert merged([good, bad]).finish is None
    assert merged([good]) is good
    assert not merged([good, good]).counts()[Verdict.FAIL]
