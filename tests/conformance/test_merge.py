# SPDX-License-Identifier: GPL-2.0-only
"""Shares of the cases, and runs merged to one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from conformance.groups import cases
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, FinishEvent, KernelEvent, RunEvent
from conformance.report.events import NAME, EventLog, Run, read
from conformance.run import evidence_copy
from conformance.run.evidence_copy import EvidenceOrigin, carry, marked
from conformance.run.shard import Shard
from tests.conformance.conform import conform

KERNEL = KernelEvent(spec="debian:6.12", slug="debian-6.12", release="6.12.107+deb12-amd64", digest="5d" * 32)
NAMES = [f"case-{number}" for number in range(12)]


@given(st.sampled_from([case.id for case in cases()]), st.integers(1, 50))
def test_every_case_is_in_exactly_one_share(case: str, count: int) -> None:
    """Nothing is judged twice, nothing is left out."""
    assert [Shard(number, count).holds(case) for number in range(1, count + 1)].count(True) == 1


def test_shares_are_even() -> None:
    """None of four shares of all cases is a tenth larger than it should be."""
    ids = [case.id for case in cases()]

    sizes = [sum(map(Shard(number, 4).holds, ids)) for number in range(1, 5)]

    assert max(sizes) < 1.1 * len(ids) / 4


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", ""])
def test_what_is_no_share(text: str) -> None:
    """The error names the option and its value."""
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)


def write(
    folder: Path, shard: str, names: Iterable[str], verdict: Verdict = Verdict.PASS, suite: str = "", **more: Any
) -> str:
    """Write the results of one share, and return the folder."""
    chosen = list(names)
    start = RunEvent(
        started="2026-11-22T20:29:00Z",
        command=("./conform",),
        selected={KERNEL.slug: len(chosen)},
        suite_commit=suite,
        shard=shard,
    )
    with EventLog(folder / NAME) as log:
        log.write(start)
        log.write(KERNEL)
        case = CaseEvent(kernel=KERNEL.slug, group="redirect", name="", id="", verdict=verdict)
        for name in chosen:
            log.write(replace(case, name=name, id=f"redirect/{name}", **more))
        log.write(FinishEvent(exit_code=0, seconds=1.0))
    return str(folder)


def merged_evidence(
    results: Path, output: Path, evidence: str = "", case: str = "redirect/case-0"
) -> tuple[list[str], list[str]]:
    """Carry the evidence of a run of one case; return what the case has now, and what was not copied.

    A log with such a folder or case is refused when it is read; the copy does not rely on that.
    """
    origins: dict[str, EvidenceOrigin] = {}
    folder = evidence or TestEvidence.CASE
    event = CaseEvent(
        kernel=KERNEL.slug, group="redirect", name="case-0", id=case, verdict=Verdict.FAIL, evidence=folder
    )
    run = Run(read(results).start, {KERNEL.slug: KERNEL}, {KERNEL.slug: [event]})
    run, left = carry(marked(run, results, origins), output, origins)
    return [case.evidence for case in run.cases[KERNEL.slug]], left


class TestEvidence:
    """Files that a run left, in the folder of the merged one."""

    CASE = f"cases/{KERNEL.slug}/redirect/case-0"

    def leave(self, results: Path) -> Path:
        """Write a run of one bad case and make the folder of its evidence, with a log."""
        write(results, "", NAMES[:1], Verdict.FAIL, evidence=self.CASE)
        folder = results / self.CASE
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text("BUG: \x1b[2J\n")
        (results.parent / "out").mkdir()
        return folder

    def test_it_is_copied(self, tmp_path: Path) -> None:
        """Each file of an unexpected case is beside the merged log, which names its folder."""
        folder = self.leave(tmp_path / "1")
        (folder / "serial.txt").write_text("tail\n")
        (folder / "unknown.txt").write_text("not ours\n")
        write(tmp_path / "2", "", NAMES[1:])

        assert conform("merge", "1", "2", "--output", "whole", cwd=tmp_path).returncode == 1

        copied = tmp_path / "whole" / self.CASE
        assert {path.name: path.read_text() for path in copied.iterdir()} == {
            "log.txt": "BUG: \x1b[2J\n",
            "serial.txt": "tail\n",
        }
        assert read(tmp_path / "whole").unexpected()[0].evidence == self.CASE

    @pytest.mark.parametrize("what", ["file", "folder", "above"])
    def test_no_link_is_followed(self, what: str, tmp_path: Path) -> None:
        """Neither the file, nor its folder, nor one above may be a link to somewhere else."""
        folder = self.leave(tmp_path / "1")
        secret = tmp_path / "secret"
        secret.mkdir()
        (secret / "log.txt").write_text("secret\n")
        place = {"file": folder / "log.txt", "folder": folder, "above": folder.parent}[what]
        place.rename(tmp_path / "aside")
        (secret / "case-0").symlink_to(secret)
        place.symlink_to(secret / "log.txt" if what == "file" else secret)

        _, left = merged_evidence(tmp_path / "1", tmp_path / "out")

        assert len(left) == 1
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]

    @pytest.mark.parametrize(
        "evidence", ["/etc", "../secret", "cases/../../secret", "a/./b", "x" * 300, "a\nb", "gone"]
    )
    def test_a_log_does_not_say_what_is_read(self, evidence: str, tmp_path: Path) -> None:
        """A folder that is not below the results is not read, and the case has no evidence then."""
        self.leave(tmp_path / "1")
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "log.txt").write_text("secret\n")

        kept, left = merged_evidence(tmp_path / "1", tmp_path / "out", evidence)

        assert (kept, len(left)) == ([""], 1)
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]

    def test_a_log_does_not_say_what_is_written(self, tmp_path: Path) -> None:
        """An id that leads out of the results folder is refused."""
        self.leave(tmp_path / "1")

        kept, left = merged_evidence(tmp_path / "1", tmp_path / "out", case="../../../up")

        assert (kept, len(left)) == ([""], 1)
        assert not (tmp_path / "up").exists()

    def test_sizes_are_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that is too large is not copied and is named; a FIFO does not block the merge."""
        folder = self.leave(tmp_path / "1")
        (folder / "memory.elf").write_bytes(bytes(4097))
        os.mkfifo(folder / "trace.txt")
        monkeypatch.setattr(evidence_copy, "LARGEST", 4096)

        kept, left = merged_evidence(tmp_path / "1", tmp_path / "out")

        assert kept == [self.CASE]
        assert [path.name for path in (tmp_path / "out" / self.CASE).iterdir()] == ["log.txt"]
        assert sorted(sentence.rpartition("/")[2].partition(":")[0] for sentence in left) == ["memory.elf", "trace.txt"]
        monkeypatch.setattr(evidence_copy, "ROOM", 3)
        (tmp_path / "small").mkdir()
        assert len(merged_evidence(tmp_path / "1", tmp_path / "small")[1]) == 3


class TestMerge:
    """Through the real command."""

    def test_two_shares_are_one_run(self, tmp_path: Path) -> None:
        """All cases, one kernel, one verdict; and the result can be merged again."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "2", "2/2", NAMES[5:])]

        done = conform("merge", *parts, "--output", "whole", cwd=tmp_path)

        assert done.returncode == 0, done.stderr
        run = read(tmp_path / "whole")
        assert [case.name for case in run.cases[KERNEL.slug]] == NAMES
        assert (run.start.selected, run.start.shard) == ({KERNEL.slug: 12}, "")
        assert run.finish is not None
        assert run.finish.exit_code == 0
        assert (tmp_path / "whole" / "summary.json").is_file()
        assert conform("merge", "whole", "--output", "again", cwd=tmp_path).returncode == 0

    def test_a_bad_share_makes_a_bad_run(self, tmp_path: Path) -> None:
        """An unexpected verdict of one share is unexpected in the merged run."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "2", "2/2", NAMES[5:6], Verdict.FAIL)]

        assert conform("merge", *parts, "--output", "whole", cwd=tmp_path).returncode == 1

    def test_a_missing_share_is_no_success(self, tmp_path: Path) -> None:
        """A run with a missing share is not a success."""
        parts = [write(tmp_path / "1", "1/3", NAMES[:5]), write(tmp_path / "3", "3/3", NAMES[5:])]

        done = conform("merge", *parts, "--output", "whole", cwd=tmp_path)

        said = "Shard 2/3 is missing, nothing unexpected in the others. 12 cases: 12 pass, 2.0 s"
        assert (done.returncode, done.stdout.splitlines()[0]) == (125, said)
        assert conform("report", "whole", cwd=tmp_path).stdout.splitlines()[-1] == said
        parts = [str(tmp_path / "whole"), write(tmp_path / "2", "2/3", ["late"])]
        done = conform("merge", *parts, "--output", "all", cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith("Nothing unexpected. 13 cases")

    def test_a_damaged_log_costs_only_itself(self, tmp_path: Path) -> None:
        """It is named with its line; the others are merged, and the merged run is no success."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "2", "2/2", NAMES[5:])]
        (tmp_path / "2" / NAME).write_text("nonsense\n")

        done = conform("merge", *parts, "--output", "whole", cwd=tmp_path)

        assert done.returncode == 128
        assert done.stdout.startswith("Shard 2/2 is missing, nothing unexpected in the others. 5 cases")
        assert done.stderr.startswith(f"conform: {tmp_path}/2/{NAME}, line 1: not JSON")
        finish = read(tmp_path / "whole").finish
        assert finish is not None
        assert finish.exit_code == 128
        write(tmp_path / "1b", "1/2", NAMES[:5], Verdict.FAIL)
        assert conform("merge", "1b", "2", "--output", "worse", cwd=tmp_path).returncode == 1
        assert conform("merge", "2", "--output", "none", cwd=tmp_path).returncode == 128
        assert not (tmp_path / "none").exists()

    def test_an_interrupted_share_is_named(self, tmp_path: Path) -> None:
        """The reader learns which machine to look at."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "2", "2/2", NAMES[5:])]
        log = tmp_path / "2" / NAME
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))

        done = conform("merge", *parts, "--output", "whole", cwd=tmp_path)

        said = " ".join(done.stdout.split())
        assert f"Note: the run in {tmp_path}/2, shard 2/2, was interrupted" in said
        assert "/1, shard" not in said

    def test_a_share_is_not_the_whole(self, tmp_path: Path) -> None:
        """Reports name the share, alone and merged; a failure does not hide that another share is missing."""
        part = write(tmp_path / "1", "1/2", NAMES[:5])
        assert "Nothing unexpected in shard 1/2. 5 cases" in conform("report", part, cwd=tmp_path).stdout
        assert "Shard 2/2 is missing" in conform("merge", part, "--output", "whole", cwd=tmp_path).stdout

        bad = write(tmp_path / "2", "2/2", NAMES[:5], Verdict.FAIL)
        assert "5 UNEXPECTED, shard 1/2 is missing." in conform("merge", bad, "--output", "bad", cwd=tmp_path).stdout

    def test_the_same_run_twice(self, tmp_path: Path) -> None:
        """Two names of one run are an error that gives both."""
        part = write(tmp_path / "1", "1/2", NAMES)
        shutil.copytree(part, tmp_path / "2")

        done = conform("merge", "1", "2", "--output", "whole", cwd=tmp_path)

        assert (done.returncode, done.stderr.splitlines()[0]) == (128, "conform: 1 and 2 are the same run")

    def test_two_suites(self, tmp_path: Path) -> None:
        """Both suites are named, each with its run."""
        write(tmp_path / "1", "1/2", NAMES[:5], suite="aaaaaaaaaaaa")
        write(tmp_path / "2", "2/2", NAMES[5:], suite="bbbbbbbbbbbb")

        done = conform("merge", "1", "2", "--output", "whole", cwd=tmp_path)

        assert "2 versions of the suite, which may judge differently: aaaaaaaaaaaa (1), bbbbbbbbbbbb (2)" in " ".join(
            done.stdout.split()
        )

    def test_shares_of_different_divisions(self, tmp_path: Path) -> None:
        """Shares of different N cannot be merged."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "3", "3/3", NAMES[5:])]

        assert conform("merge", *parts, "--output", "whole", cwd=tmp_path).returncode == 128

    def test_the_parts_are_not_overwritten(self, tmp_path: Path) -> None:
        """The output folder must not be one of the inputs."""
        part = write(tmp_path / "1", "1/1", NAMES)

        assert conform("merge", part, "--output", "1", cwd=tmp_path).returncode == 128
        assert len(read(Path(part)).cases[KERNEL.slug]) == 12

    def test_a_folder_with_results(self, tmp_path: Path) -> None:
        """The hint is about --output: `merge` resumes nothing."""
        write(tmp_path / "1", "1/2", NAMES[:5])
        write(tmp_path / "2", "2/2", NAMES[5:])

        done = conform("merge", "1", "--output", "2", cwd=tmp_path)

        assert done.returncode == 128
        assert done.stderr.splitlines() == [
            "conform: 2 already holds the results of a run",
            "  hint: choose another folder with --output DIR",
        ]

    @pytest.mark.parametrize("name", ["loop", "x" * 300])
    def test_a_folder_that_cannot_be(self, name: str, tmp_path: Path) -> None:
        """A link to itself, or a name that is too long, is named with the option that names another."""
        write(tmp_path / "1", "1/1", NAMES)
        (tmp_path / "loop").symlink_to("loop")

        done = conform("merge", "1", "--output", name, cwd=tmp_path)

        assert done.returncode == 128
        assert "internal error" not in done.stderr
        assert name in done.stderr

    def test_the_hint_names_its_own_option(self, tmp_path: Path) -> None:
        """`merge` has no --results."""
        write(tmp_path / "1", "1/1", NAMES)
        (tmp_path / "file").touch()

        assert (
            "choose another folder with --output DIR" in conform("merge", "1", "--output", "file", cwd=tmp_path).stderr
        )
