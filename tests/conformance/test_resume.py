# SPDX-License-Identifier: GPL-2.0-only
"""A run is resumed only if the rest would be judged like the finished part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bpf.build import object_hashes
from common.errors import UsageError
from conformance import cli
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, FinishEvent, KernelEvent, RunEvent
from conformance.report.events import EventLog, Run, read
from conformance.run import resume
from conformance.run.provenance import suite_commit
from conformance.run.recorder import RunRecorder
from kernels.kernel import Kernel
from kernels.resolve import resolve

START = RunEvent(
    started="2026-11-22T20:29:00Z", command=("./conform", "run", "--kernel", "host", "-k", "tcp"), selected={"host": 3},
    suite_commit=suite_commit(), bpf_objects=object_hashes(),
)  # fmt: skip


def _case(name: str, verdict: Verdict = Verdict.PASS, at: float = 1.0) -> CaseEvent:
    return CaseEvent(kernel="host", group="redirect", name=name, id=f"redirect/{name}", verdict=verdict,
                     nodeid=f"test_redirect[host-{name}]", at=at)  # fmt: skip


def _log(folder: Path, *events: CaseEvent | KernelEvent | FinishEvent, start: RunEvent = START) -> None:
    with EventLog(folder / "events.jsonl") as log:
        log.write(start)
        for event in events:
            log.write(event)


class TestRecall:
    """The facts about the interrupted run, from its log."""

    def test_options_are_those_of_the_run(self, tmp_path: Path) -> None:
        """Kernels and selection come from the log."""
        _log(tmp_path, _case("a"))

        options, run = resume.recall(str(tmp_path), cli.parse)

        assert (options.conform_kernel, options.k) == (["host"], "tcp")
        assert len(run.cases["host"]) == 1

    @pytest.mark.parametrize(
        ("start", "sentence"),
        [
            (replace(START, suite_commit="0123"), "started with suite 0123, this is"),
            (replace(START, bpf_objects={}), "with other BPF programs"),
            (replace(START, command=("/usr/bin/pytest", "conformance")), "not made by ./conform run"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, start: RunEvent, sentence: str, tmp_path: Path) -> None:
        """A run of another suite, or with another kernel, is not resumed."""
        _log(tmp_path, start=start)

        with pytest.raises(UsageError, match=sentence):
            resume.recall(str(tmp_path), cli.parse)

    def test_another_kernel_is_refused(self) -> None:
        """A rebuilt kernel is another kernel; a kernel that never ran is not required."""
        host: Kernel = resolve("host")
        run = Run(START)
        run.add(KernelEvent(spec="host", slug="host", digest=host.digest))
        run.add(KernelEvent(spec="./x", slug="x", error="no such file"))
        resume.check_kernels(run, {"host": host})

        with pytest.raises(UsageError, match=r"host is .* now, and was"):
            resume.check_kernels(run, {"host": replace(host, digest="1" * 64)})
        with pytest.raises(UsageError, match="no longer exists"):
            resume.check_kernels(run, {})

    def test_other_options_are_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Options that would change the remaining cases are refused."""
        _log(tmp_path, _case("a"))

        assert cli.main(["run", "--resume", str(tmp_path), "--memory", "1024"]) == 128
        assert "takes no others" in capsys.readouterr().err

    def test_no_log(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A folder without a run is wrong usage."""
        assert cli.main(["run", "--resume", str(tmp_path)]) == 128
        assert "cannot read the event log" in capsys.readouterr().err


class TestWhatIsDone:
    """A judged case is not judged again."""

    def test_only_verdicts_count(self) -> None:
        """Infra cases are judged again; failures are not."""
        run = Run(START)
        for event in (_case("a"), _case("b", Verdict.FAIL), _case("c", Verdict.INFRA)):
            run.add(event)

        assert resume.done(run) == {"test_redirect[host-a]", "test_redirect[host-b]"}
        assert not resume.is_complete(run)

        run.add(_case("c"))
        assert resume.is_complete(run)
        run.add(KernelEvent(spec="./x", slug="x", error="no such file"))
        assert not resume.is_complete(run)

    def test_the_log_goes_on(self, tmp_path: Path) -> None:
        """A torn last line is removed, all others stay, the clock continues, and an earlier end is ignored."""
        _log(tmp_path, _case("a", at=7.0), _case("b", Verdict.INFRA, at=8.0), FinishEvent(exit_code=143, seconds=9.0))
        path = tmp_path / "events.jsonl"
        whole = path.read_bytes()
        with path.open("ab") as file:
            file.write(b'{"event":"case"')
        recorder = RunRecorder(results=tmp_path, before=read(tmp_path))
        assert recorder.earlier == 9.0

        recorder.begin({"host": frozenset(["redirect/b", "redirect/c"])})
        recorder.add(_case("b", at=10.0))

        assert path.read_bytes().startswith(whole)
        run = read(tmp_path)
        assert run.finish is None
        assert [(case.name, case.verdict, case.at) for case in run.cases["host"]] == [
            ("a", Verdict.PASS, 7.0),
            ("b", Verdict.PASS, 10.0),
        ]
        assert run.unseen() == 1
        recorder.add(_case("c", at=11.0))
        assert recorder.end(12.0) == 0

    def test_nothing_is_left(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A run that is complete is reported, with its exit code, and no machine is started."""
        _log(tmp_path, _case("a"), _case("b"), _case("c", Verdict.FAIL))

        assert cli.main(["run", "--resume", str(tmp_path)]) == 1
        assert "1 UNEXPECTED. 3 cases" in capsys.readouterr().out
