# SPDX-License-Identifier: GPL-2.0-only
"""Results are safe: a folder for each run, used by one run at a time, never overwritten, and easy to find."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import HostError, UsageError
from conformance import cli
from conformance.report.event_types import FinishEvent, RunEvent
from conformance.report.events import NAME, EventLog, Run, read
from conformance.run.recorder import RunRecorder
from conformance.run.results import Claim, closing_lines, new_folder, resume_command
from tests.conformance import report_runs
from tests.conformance.conform import command, conform, environment

KERNEL = "debian:6.12"
CASE = "redirect/sockmap-ingress-to-egress-tcp4-tcp4"


def begun(folder: Path) -> Path:
    """Write the log of a run into a folder."""
    with EventLog(folder / NAME) as log:
        log.write(
            RunEvent(
                started="2026-11-22T20:29:00Z", command=("./conform", "run", "--kernel", "host"), selected={"host": 3}
            )
        )
    return folder


class TestTheFolderOfARun:
    """A folder is used by one run."""

    def test_another_run_is_refused(self, tmp_path: Path) -> None:
        """Two runs cannot write one log; the sentence names the folder, the hint both solutions."""
        with Claim(tmp_path / "out"), pytest.raises(UsageError) as caught:
            Claim(tmp_path / "out")

        assert str(caught.value) == f"another run is writing its results to {tmp_path / 'out'}"
        assert "--results DIR" in caught.value.hint
        assert "--resume" in caught.value.hint

    def test_a_run_of_another_process_is_refused(self, tmp_path: Path) -> None:
        """The lock works between processes, and ends with its process, however that ends."""
        script = "import sys; from pathlib import Path; from conformance.run.results import Claim\n"
        script += "claim = Claim(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(UsageError, match="another run is writing"):
                Claim(tmp_path)
            other.kill()
            other.wait(60)
            Claim(tmp_path).release()

    @pytest.mark.parametrize("left", [NAME, "base/events.jsonl", "summary.json", "comparison.json", "cases/x"])
    def test_an_earlier_run_is_not_overwritten(self, left: str, tmp_path: Path) -> None:
        """The files of an earlier run are kept, and the folder can be claimed to resume it."""
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).write_text("{}\n")

        with pytest.raises(UsageError, match="already holds the results of a run") as caught:
            Claim(tmp_path)

        assert f"./conform run --resume {tmp_path}" in caught.value.hint
        assert (tmp_path / left).read_text() == "{}\n"
        Claim(tmp_path, again=True).release()

    def test_other_files_are_no_obstacle(self, tmp_path: Path) -> None:
        """A user's folder may hold other files, and the empty log of a run that never began."""
        (tmp_path / "notes").touch()
        (tmp_path / NAME).touch()

        Claim(tmp_path).release()

        assert [path.name for path in tmp_path.iterdir()] == ["notes"]

    def test_a_run_that_never_began_leaves_nothing(self, tmp_path: Path) -> None:
        """A folder made for the run is removed; an existing one stays."""
        Claim(tmp_path / "new").release()
        (tmp_path / "old").mkdir()
        Claim(tmp_path / "old").release()

        assert [path.name for path in tmp_path.iterdir()] == ["old"]

    def test_the_log_is_claimed_whoever_writes_it(self, tmp_path: Path) -> None:
        """A recorder claims its results folder and releases it at its end, in plain pytest and in a matrix too."""
        recorder = RunRecorder(results=tmp_path)
        recorder.begin({})
        with pytest.raises(UsageError, match="another run"):
            RunRecorder(results=tmp_path).begin({})
        recorder.end(1.0)

        with pytest.raises(UsageError, match="already holds"):
            RunRecorder(results=tmp_path).begin({})

    def test_what_is_no_folder(self, tmp_path: Path) -> None:
        """A file, or a folder without a run to resume, is named."""
        (tmp_path / "file").touch()
        with pytest.raises(HostError, match="file: Not a directory"):
            Claim(tmp_path / "file")
        with pytest.raises(UsageError, match=r"there is no results folder .*nowhere: No such file"):
            Claim(tmp_path / "nowhere", again=True)


class TestANewFolder:
    """A run without --results gets its own folder."""

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_is_named_by_date_and_time(self) -> None:
        """Two runs in the same second have different folders; git ignores them; `latest` is the one that ended last."""
        with new_folder() as first, new_folder() as second:
            assert re.fullmatch(r"conform-results/\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", str(first))
            assert first != second
            begun(first)
            begun(second)
            assert not Path("conform-results/latest").exists()

        assert Path("conform-results/latest").resolve() == first.resolve()
        assert Path("conform-results/.gitignore").read_text() == "*\n"

    def test_nothing_stays_of_a_run_that_left_nothing(self) -> None:
        """Wrong usage creates no folder, and removes none."""
        with new_folder():
            pass
        assert not Path("conform-results").exists()

        with new_folder() as kept:
            begun(kept)
        with new_folder():
            pass
        assert Path("conform-results/latest").resolve() == kept.resolve()

    def test_what_cannot_be_written(self) -> None:
        """The error for a file in the way names it and the option to use; a planted link is not followed."""
        Path("elsewhere").mkdir()
        Path("conform-results").symlink_to("elsewhere")
        with pytest.raises(HostError, match="conform-results is a symbolic link"), new_folder():
            pass
        assert not list(Path("elsewhere").iterdir())

        Path("conform-results").unlink()
        Path("conform-results").touch()
        with pytest.raises(HostError, match=r"cannot make a results folder in .*: file exists") as caught, new_folder():
            pass
        assert "--results DIR" in caught.value.hint

    def test_latest_is_never_somebodys_own(self) -> None:
        """A user's file of that name is left alone."""
        Path("conform-results").mkdir()
        Path("conform-results/latest").write_text("mine")
        with new_folder() as folder:
            begun(folder)

        assert Path("conform-results/latest").read_text() == "mine"


class TestTheLastLines:
    """The last lines: the results folder, how to resume, how to open the page."""

    def _run(self, *, seen: int, finish: FinishEvent | None) -> Run:
        run = report_runs.healthy()
        run.cases = {slug: cases[:seen] for slug, cases in run.cases.items()}
        run.finish = finish
        return run

    def test_of_a_whole_run(self) -> None:
        """A finished run has no command to resume it."""
        run = self._run(seen=736, finish=FinishEvent(exit_code=0, seconds=1.0))

        assert closing_lines(Path("a b"), run) == ["", "results: 'a b'", "page:    ./conform report 'a b' --open"]

    @pytest.mark.parametrize("finish", [None, FinishEvent(exit_code=130, seconds=1.0, interrupted=True)])
    def test_of_an_interrupted_run(self, finish: FinishEvent | None) -> None:
        """The command that resumes the run can be pasted."""
        lines = closing_lines(Path("out"), self._run(seen=100, finish=finish))

        assert lines[1:] == [
            "results: out", "resume:  ./conform run --resume out", "page:    ./conform report out --open",
        ]  # fmt: skip

    def test_of_a_run_that_broke(self, tmp_path: Path) -> None:
        """A broken run with a log can be resumed; a run that never began has nothing to show."""
        assert closing_lines(tmp_path, None) == []
        begun(tmp_path)
        assert f"resume:  ./conform run --resume {tmp_path}" in closing_lines(tmp_path, None)

    def test_the_command_that_resumes_is_the_one_that_began(self, tmp_path: Path) -> None:
        """`matrix` has its own; whatever else a log says, `run` is named."""
        log = begun(tmp_path) / NAME
        for made_by, named in (("matrix", "matrix"), ("; rm -rf /", "run"), ("", "run")):
            log.write_text(log.read_text().replace('"run","--kernel"', f'"{made_by}","--kernel"'))
            assert resume_command(tmp_path) == f"./conform {named} --resume {tmp_path}"
            begun(tmp_path)
        log.write_bytes(b"\xff" * 100)
        assert resume_command(tmp_path) == f"./conform run --resume {tmp_path}"


def test_evidence_is_named_relative_to_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path in a report on the terminal can be pasted; the log itself has a relative path and may be moved."""
    run = report_runs.sick()
    bad = replace(run.unexpected()[0], evidence="cases/debian-6.12/x")
    (tmp_path / "some" / "where").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "some")
    with EventLog(Path("where") / NAME) as log:
        log.write(run.start)
        log.write(bad)
    for name in ("where", "where/events.jsonl"):
        assert cli.main(["report", name]) == 0
        assert "evidence  where/cases/debian-6.12/x" in capsys.readouterr().out
    assert read(Path("where")).unexpected()[0].evidence == "cases/debian-6.12/x"


def test_the_page_is_written_beside_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`report --open` writes it and shows it with the desktop's own opener; the address is printed."""
    monkeypatch.chdir(tmp_path)
    begun(tmp_path / "out")
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text('#!/bin/sh\necho "$1" > opened\n')
    opener.chmod(0o755)
    path = f"{opener.parent}{os.pathsep}{os.environ['PATH']}"

    done = conform("report", "out", "--open", cwd=tmp_path, PATH=path, DISPLAY=":7")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"file://{tmp_path}/out/report.html\n"
    assert (tmp_path / "opened").read_text() == "out/report.html\n"
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "opened").unlink()
    assert conform("report", "out", "--open", cwd=tmp_path, PATH=path, DISPLAY="", WAYLAND_DISPLAY="").returncode == 0
    assert not (tmp_path / "opened").exists()


def test_resuming_waits_for_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A running run cannot be resumed by a second process."""
    begun(tmp_path)
    with Claim(tmp_path, again=True):
        assert cli.main(["run", "--resume", str(tmp_path)]) == 128
    assert "another run is writing" in capsys.readouterr().err


@pytest.mark.vm
def test_a_run_that_names_no_folder(tmp_path: Path) -> None:
    """Its last lines name the folder, which has everything; a second run with that folder is refused."""
    done = conform("run", "--kernel", KERNEL, "--case", CASE, cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    results, page = (line.split(maxsplit=1) for line in done.stdout.splitlines()[-2:])
    assert (results[0], page[0]) == ("results:", "page:")
    assert [case.id for case in read(tmp_path / results[1]).cases["debian-6.12"]] == [CASE]
    assert (tmp_path / "conform-results" / "latest").resolve() == (tmp_path / results[1]).resolve()

    again = conform("run", "--kernel", KERNEL, "--case", CASE, "--results", results[1], cwd=tmp_path)
    assert again.returncode == 128
    assert "already holds" in again.stderr
    wrong = subprocess.run(
        command("run", "--kernel", KERNEL, "--case", CASE, "--cpus", "0"), cwd=tmp_path, env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert wrong.returncode == 128
    assert len(list((tmp_path / "conform-results").glob("2*"))) == 1
