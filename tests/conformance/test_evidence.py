# SPDX-License-Identifier: GPL-2.0-only
"""An unexpected case leaves its evidence in its own folder, even if the machine or the disk fails."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import HostError
from conformance.groups import cases
from conformance.groups.redirect.cases import redirect_cases
from conformance.judge.lists import Lists
from conformance.model import LogEntry, TryEntry, Verdict
from conformance.report.events import read
from conformance.report.live import PlainReporter
from conformance.run import artifacts as evidence
from conformance.run.artifacts import collect, store
from conformance.run.recorder import RunRecorder
from conformance.run.retries import EvidenceRequest
from tests.conformance.conform import environment
from tests.conformance.pools import CASE, GOOD, PANICKED, SLUG, STRAY, WARNED, OneMachine, ScriptedPool
from tests.conformance.report_runs import KERNEL_6_12, judged
from vm.machine import Reply

LINE: LogEntry = {"sequence": 7, "level": 4, "microseconds": 1500000, "text": "WARNING: caf\u00e9"}
BAD = judged(
    KERNEL_6_12,
    redirect_cases()[0],
    "other",
    verdict=Verdict.SPLAT,
    log=(LINE,),
    console="tail\n",
    observation={"a": 1},
)
TRY: TryEntry = {"verdict": Verdict.SPLAT, "observed": "splat", "fresh": False, "times": 1, "log": (LINE,)}


def test_what_is_in_the_folder(tmp_path: Path) -> None:
    """Log, console, observation and the command that repeats the case, below kernel and id."""
    folder = store(tmp_path, BAD)

    assert str(folder) == f"cases/debian-6.12/{BAD.id}"
    texts = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / folder).iterdir()}
    assert texts == {
        "log.txt": "[    1.500000] WARNING: caf\u00e9\n",
        "serial.txt": "tail\n",
        "observation.json": '{\n  "a": 1\n}\n',
        "command.txt": f"{BAD.repeat}\n",
    }


def test_a_file_of_evidence_can_be_printed(tmp_path: Path) -> None:
    """cat(1) of a guest's evidence prints no escape sequence, and a line of the log is a line of the file."""
    nasty = "\x1b]0;gone\x07\x9b2J\u202e\r\n[   99.000000] forged"
    event = replace(BAD, console=f"{nasty}\r\r\nlast\r\n", log=({**LINE, "text": nasty},), repeat=nasty)
    folder = tmp_path / store(tmp_path, event)

    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert all({each for each in text if not each.isprintable()} == {"\n"} for text in texts.values())
    assert len(texts["log.txt"].splitlines()) == 1
    assert texts["serial.txt"] == "\\x1b]0;gone\\x07\\x9b2J\\u202e\n[   99.000000] forged\nlast\n"


def test_each_try_has_its_part_of_the_log(tmp_path: Path) -> None:
    """The log shows which try logged which line."""
    event = replace(BAD, tries=(TRY, {**TRY, "verdict": Verdict.PASS, "fresh": True, "log": ()}))

    text = (tmp_path / store(tmp_path, event) / "log.txt").read_text(encoding="utf-8")

    assert text.splitlines() == [
        "# try 1, 1 time, in its shard's clone: splat",
        "[    1.500000] WARNING: caf\u00e9",
        "# try 2, 1 time, in a fresh clone: pass",
    ]


def test_ids_are_fit_for_folders() -> None:
    """Every case of every group has a folder that every file system takes, and no two share one."""
    folders = [str(evidence.folder_of("debian-6.12", case.id)) for case in cases()]

    assert len({folder.lower() for folder in folders}) == len(folders)
    assert all(len(part) < 200 and part.strip(".") for folder in folders for part in folder.split("/"))


class TestTheRecorder:
    """Evidence is written with each verdict."""

    def _recorder(self, results: Path) -> RunRecorder:
        recorder = RunRecorder(results=results)
        recorder.begin({"debian-6.12": frozenset((BAD.id, "redirect/other"))})
        return recorder

    def test_only_of_bad_cases(self, tmp_path: Path) -> None:
        """The event names the folder; a passed case has none, nor has a case that no machine was asked."""
        recorder = self._recorder(tmp_path)
        recorder.add(BAD)
        recorder.add(judged(KERNEL_6_12, redirect_cases()[1], "delivered"))
        recorder.add(judged(KERNEL_6_12, redirect_cases()[2], "infra", verdict=Verdict.INFRA))
        recorder.end(1.0)

        bad, good, unseen = read(tmp_path).cases["debian-6.12"]
        assert (bad.evidence, good.evidence, unseen.evidence) == (f"cases/debian-6.12/{BAD.id}", "", "")
        assert len(list((tmp_path / "cases").rglob("command.txt"))) == 1

    def test_that_cannot_be_written(self, tmp_path: Path) -> None:
        """A failure to write is reported once, and the run goes on."""
        screen = io.StringIO()
        recorder = self._recorder(tmp_path)
        recorder.reporter = PlainReporter(screen)
        (tmp_path / "cases").touch()
        recorder.add(BAD)
        recorder.add(replace(BAD, id="redirect/other"))
        recorder.end(1.0)

        shown = " ".join(screen.getvalue().split())
        assert shown.count("cannot write the evidence of") == 1
        assert f"cannot write the evidence of {BAD.id} to" in shown
        assert [case.evidence for case in read(tmp_path).cases["debian-6.12"]] == ["", ""]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_disk_leaves_a_log_that_can_be_read(tmp_path: Path) -> None:
    """A full disk leaves no half-written evidence and no half line in the log."""
    script = """
import sys
from pathlib import Path
from common.errors import HostError
from conformance.run.artifacts import store
from conformance.report.event_types import RunEvent
from conformance.report.events import EventLog, read
from dataclasses import replace
from tests.conformance.test_evidence import BAD
root = Path(sys.argv[1])
with EventLog(root / "events.jsonl") as log:
    log.write(RunEvent(started="2026-11-22T20:29:00Z", command=()))
    written = 0
    try:
        while True:
            log.write(replace(BAD, id=f"redirect/{written}", console="x" * 3000))
            written += 1
    except HostError as error:
        print(error)
    try:
        store(root, BAD)
    except HostError as error:
        print(error)
assert written == len(read(root).cases["debian-6.12"]) > 3
assert (root / "events.jsonl").read_bytes().endswith(b"\\n")
assert not [path for path in root.rglob("*") if path.is_file() and path.name != "events.jsonl"]
"""
    mount = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, str(tmp_path), sys.executable, "-c", script, str(tmp_path)]

    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    event, folder = done.stdout.splitlines()
    assert event.startswith("cannot write the event log")
    assert folder.startswith("cannot write the evidence")


class TestOneMoreRun:
    """A trace and a dump each take another run of the case."""

    def _collected(self, tmp_path: Path, pool: ScriptedPool, **evidence_request: bool) -> dict[str, str]:
        collect(pool, SLUG, CASE, Lists(), EvidenceRequest(tmp_path, **evidence_request))
        assert pool.history[:2] == ["close", "ask"], "not in a fresh clone"
        return {path.name: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}

    def test_a_trace(self, tmp_path: Path) -> None:
        """The trace begins with the verdict of its run."""
        pool = ScriptedPool(replace(STRAY, trace="0) sk_psock_init(); /* ret=0 */\n"))

        files = self._collected(tmp_path, pool, trace=True)

        assert files.keys() == {"trace.txt"}
        head, line = files["trace.txt"].splitlines()
        assert head.endswith("verdict: fail")
        assert "sk_psock_init" in line

    def test_a_dump_of_a_healthy_guest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A guest that did not die is dumped after its case."""
        pool = ScriptedPool(STRAY)
        monkeypatch.setattr(pool, "dump", lambda path: path.write_text("core"))

        assert self._collected(tmp_path, pool, dump=True) == {"memory.elf": "core"}

    @pytest.mark.parametrize("replies", [[WARNED], [STRAY, WARNED]], ids=["at-once", "late"])
    def test_a_dump_of_a_guest_that_warned(self, tmp_path: Path, replies: list[Reply]) -> None:
        """A guest that warned is dumped before it is closed."""
        pool = OneMachine(*replies)

        collect(pool, SLUG, CASE, Lists(), EvidenceRequest(tmp_path, dump=True))

        (core,) = (path for path in tmp_path.rglob("*.*") if path.is_file())
        assert (core.name, core.read_text()) == ("memory.elf", "core")

    def test_what_cannot_be_had(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Why there is no dump and no trace is in the folder."""
        no_dump = replace(PANICKED, dump="no memory dump: No space left on device")
        files = self._collected(tmp_path, ScriptedPool(no_dump), trace=True, dump=True)
        assert files["missing.txt"].splitlines() == [
            no_dump.dump,
            "no trace: the machine died before the host could read it",
        ]

        pool = ScriptedPool(GOOD)

        def refuse(path: Path) -> bool:
            raise HostError("the running kernel is not a guest")

        monkeypatch.setattr(pool, "dump", refuse)
        files = self._collected(tmp_path, pool, dump=True)
        assert files == {"missing.txt": "no memory dump: the running kernel is not a guest\n"}
