# SPDX-License-Identifier: GPL-2.0-only
"""Each case's verdicts over many runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.model import Verdict
from conformance.nightly.history import SIGNS, CaseHistory, histories
from conformance.report.event_types import CaseEvent, FinishEvent, KernelEvent, RunEvent
from conformance.report.events import NAME, EventLog, Run
from conformance.report.stored_runs import stored_runs
from tests.conformance.conform import conform, reraise

VERDICTS = {sign: verdict for verdict, sign in SIGNS.items()}
KERNEL = KernelEvent(spec="debian:6.12", slug="debian-6.12", release="6.12.107+deb12-amd64")


def run_of(number: int, **signs: str) -> Run:
    """Make a run over one kernel from case names and their signs; `~` is a fail that did not come back."""
    run = Run(
        RunEvent(started=f"2026-11-{number:02}T01:00:00Z", command=("./conform",), selected={KERNEL.slug: len(signs)})
    )
    run.add(KERNEL)
    for name, sign in signs.items():
        verdict = VERDICTS.get(sign, Verdict.FAIL)
        case = CaseEvent(kernel=KERNEL.slug, group="redirect", name=name, id=f"redirect/{name}", verdict=verdict)
        run.add(replace(case, flaky=sign == "~"))
    run.add(FinishEvent(exit_code=0, seconds=1.0))
    return run


def strip(signs: str) -> CaseHistory:
    """Make the history of one case; a blank is a run without it."""
    runs = [run_of(number, **({} if sign == " " else {"a": sign})) for number, sign in enumerate(signs, start=1)]
    return next(histories(runs))


@pytest.mark.parametrize(
    ("signs", "flips", "flaky", "noteworthy"),
    [
        ("....", 0, 0, False),
        ("..FF", 1, 0, True),
        (".F.F", 3, 0, True),
        ("FFFF", 0, 0, True),
        ("F...", 1, 0, True),
        (".x..", 0, 0, False),
        (".-?.", 0, 0, False),
        ("F-?F", 0, 0, True),
        (". .", 0, 0, False),
        (".~..", 2, 1, True),
        ("--", 0, 0, False),
    ],
)
def test_a_history(signs: str, flips: int, flaky: int, noteworthy: bool) -> None:
    """Flips are counted over verdicts about the kernel: not over skips, infra and gaps."""
    made = strip(signs)

    assert str(made) == signs
    assert (made.flips, made.flaky, made.noteworthy) == (flips, flaky, noteworthy)


def test_the_flake_rate_counts_only_verdicts_about_the_kernel() -> None:
    """One of the two runs in which the kernel answered."""
    assert strip("~-.").flake_rate == 0.5


def write(folder: Path, runs: Sequence[Run]) -> None:
    """Write a whole log for each run, the newest first by name."""
    for number, run in enumerate(runs):
        with EventLog(folder / f"{9 - number}" / NAME) as log:
            log.write(run.start)
            log.write(run.kernel(KERNEL.slug))
            for case in run.cases.get(KERNEL.slug, ()):
                log.write(case)
            if run.finish is not None:
                log.write(run.finish)


def test_runs_are_ordered_by_when_they_began(tmp_path: Path) -> None:
    """Not by the names of their folders; a log that was cut before its first line is left out."""
    write(tmp_path, [run_of(1, a="."), run_of(2, a="F")])
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / NAME).touch()

    assert [each.run.start.started[8:10] for each in stored_runs(tmp_path, reraise)] == ["01", "02"]


def test_what_is_printed(tmp_path: Path) -> None:
    """Runs, legend, then each noteworthy case with a line per kernel, the case with most flips first."""
    write(tmp_path, [run_of(1, a=".", b=".", c="."), run_of(2, a=".", b="F", c="~"), run_of(3, a=".", b="F", c=".")])

    done = conform("history", str(tmp_path), cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:5] == [
        "  1  2026-11-01T01:00:00Z  1 kernel, 3 cases, 0 unexpected",
        "     suite of an unknown commit",
        "     debian:6.12 6.12.107+deb12-amd64",
        "  2  2026-11-02T01:00:00Z  1 kernel, 3 cases, 2 unexpected",
        "  3  2026-11-03T01:00:00Z  1 kernel, 3 cases, 1 unexpected",
    ]
    assert lines[8:] == [
        "",
        "redirect/c",
        "  debian:6.12  .~.  2 flips (neither suite nor kernel changed in runs 2 and 3),",
        "                    flaky 1 of 3 (33%)",
        "",
        "redirect/b",
        "  debian:6.12  .FF  1 flip (neither suite nor kernel changed in run 2)",
    ]
    everything = conform("history", str(tmp_path), "--all", "--case", "*/a", cwd=tmp_path)
    assert everything.stdout.splitlines()[8:] == ["", "redirect/a", "  debian:6.12  ..."]


def test_a_night_that_judged_too_little_is_not_green(tmp_path: Path) -> None:
    """A dead kernel, a missing share, cases without a verdict and an early end are named below the night."""
    whole, dead, share, late, killed, stopped = (run_of(number, a=".") for number in range(1, 7))
    dead.kernels[KERNEL.slug] = replace(KERNEL, error="it does not boot")
    share.start = replace(share.start, missing=("2/4", "3/4"))
    late.start = replace(late.start, selected={KERNEL.slug: 3})
    late.add(replace(late.cases[KERNEL.slug][0], name="b", id="redirect/b", verdict=Verdict.INFRA))
    late.add(FinishEvent(exit_code=125, seconds=1.0))
    killed.finish = None
    stopped.finish = FinishEvent(exit_code=129, seconds=1.0, interrupted=True)
    write(tmp_path, [whole, dead, share, late, killed, stopped])

    lines = conform("history", str(tmp_path), cwd=tmp_path).stdout.splitlines()

    assert [(lines[at - 1][2], line) for at, line in enumerate(lines) if "INCOMPLETE" in line] == [
        ("2", "     INCOMPLETE: debian:6.12 was not judged: it does not boot"),
        ("3", "     INCOMPLETE: shards 2/4, 3/4 are missing"),
        ("4", "     INCOMPLETE: 1 case could not be judged"),
        (" ", "     INCOMPLETE: 1 case never ran"),
        ("5", "     INCOMPLETE: the run has no end: it still runs, or was killed"),
        ("6", "     INCOMPLETE: the run was interrupted"),
    ]
    found = json.loads(conform("history", str(tmp_path), "--json", cwd=tmp_path).stdout)
    assert [len(night["incomplete"]) for night in found["nights"]] == [0, 1, 1, 2, 1, 1]


def test_a_damaged_log_does_not_hide_the_others(tmp_path: Path) -> None:
    """It is named with its line, the other runs are shown, and the exit code is no success."""
    write(tmp_path, [run_of(1, a="."), run_of(2, a="F")])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / NAME).write_text("nonsense\n")

    done = conform("history", str(tmp_path), cwd=tmp_path)

    assert done.returncode == 128
    assert "debian:6.12  .F  1 flip" in done.stdout
    assert done.stderr.startswith(f"conform: {tmp_path}/bad/{NAME}, line 1: not JSON")


def test_what_changed_when_a_case_flipped(tmp_path: Path) -> None:
    """A run names suite and kernels if they changed, and a flip names which of the two changed."""
    runs = [run_of(1, a="."), run_of(2, a="F"), run_of(3, a="."), run_of(4), run_of(5, a="F"), run_of(6, a=".")]
    suites = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "bbbbbbbbbbbb", "bbbbbbbbbbbb", "cccccccccccc", "cccccccccccc")
    builds = [replace(KERNEL, digest=digest * 64) for digest in "112233"]
    builds[4:] = [replace(each, release="6.12.109+deb13-amd64") for each in builds[4:]]
    for run, suite, kernel in zip(runs, suites, builds, strict=True):
        run.start = replace(run.start, suite_commit=suite)
        run.kernels[KERNEL.slug] = kernel
    write(tmp_path, runs)

    lines = conform("history", str(tmp_path), cwd=tmp_path).stdout.splitlines()

    assert [line.strip() for line in lines[:12] if line.startswith("     ")] == [
        "suite aaaaaaaaaaaa",
        "debian:6.12 6.12.107+deb12-amd64",
        "suite aaaaaaaaaaaa -> bbbbbbbbbbbb",
        "debian:6.12 6.12.107+deb12-amd64, rebuilt",
        "suite bbbbbbbbbbbb -> cccccccccccc",
        "debian:6.12 6.12.107+deb12-amd64 -> 6.12.109+deb13-amd64",
    ]
    assert " ".join(" ".join(lines[16:]).split()) == (
        "redirect/a debian:6.12 .F. F. 4 flips (the suite changed in run 2; the kernel changed in run 3;"
        " the suite and the kernel changed in run 5; neither suite nor kernel changed in run 6)"
    )


def test_a_folder_without_runs(tmp_path: Path) -> None:
    """Wrong usage, with the folder."""
    done = conform("history", str(tmp_path), cwd=tmp_path)

    assert done.returncode == 128
    assert str(tmp_path) in done.stderr
