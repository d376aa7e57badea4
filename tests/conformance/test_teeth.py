# SPDX-License-Identifier: GPL-2.0-only
"""Faults in a kernel: the data, the patch, and when a fault counts as found."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import cast

import pytest

from common.errors import ExitCode, HostError, KernelError, UsageError
from conformance.commands import teeth
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, Event, RunEvent
from conformance.report.events import encode
from conformance.run import machine_pool
from conformance.teeth import faults, planted, trial
from conformance.teeth.faults import Fault
from conformance.teeth.trial import Bench, Outcome
from vm.machine import CallStatus, Machine, Reply

PATCH = (faults.HERE / "faults.patch").read_text(encoding="utf-8")
ROW = 'number = 1\ntitle = "t"\nfunction = "f"\nfile = "x.c"\nkind = "range"\ngroups = ["insert"]\n'
FAULT = Fault(7, "It forgets", "forget", "net/core/skmsg.c", "wrong state", ("insert", "hammer"))
GOOD = CaseEvent(kernel="k", group="insert", name="a", id="insert/a", verdict=Verdict.PASS)


def case(name: str, verdict: Verdict, **more: object) -> CaseEvent:
    """Return a case of a run."""
    return CaseEvent(kernel="k", group="insert", name=name, id=f"insert/{name}", verdict=verdict, **more)  # type: ignore[arg-type]


def test_there_are_enough_faults_and_the_patch_has_each() -> None:
    """Every number in the data is a switch in the patch, in the file that the data names, and the other way round."""
    switches: dict[int, str] = {}
    for part in PATCH.split("\n--- ")[1:]:
        file = part.partition("+++ b/")[2].split("\n", 1)[0]
        added = "\n".join(line for line in part.split("\n") if line.startswith("+"))
        switches |= {int(number): file for number in re.findall(r"SOCKMAP_FAULT\((\d+)\)", added)}

    assert len(faults.faults()) >= 80
    assert switches == {fault.number: fault.file for fault in faults.faults()}


def test_every_kind_and_file_of_fault_is_there() -> None:
    """Every kind has a fault, and so have maps, psocks, protocols, the parser and pidfds."""
    assert {fault.kind for fault in faults.faults()} == faults.KINDS
    touched = {fault.file for fault in faults.faults()}
    assert {"net/core/sock_map.c", "net/core/skmsg.c", "net/strparser/strparser.c", "kernel/pid.c"} < touched


def test_what_no_fault_touches_is_known() -> None:
    """Every function has a fault or is listed without one, and most have one."""
    left = faults.untouched()
    assert ("net/core/sock_map.c", "sock_map_progs") in left
    assert not {(fault.file, fault.function) for fault in faults.faults()} & set(left)
    assert len(left) < len(faults.faults()) / 4


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (ROW.replace("number = 1", 'number = "1"'), "'number' is a number from 1 on"),
        (ROW.replace('title = "t"\n', ""), "lacks 'title'"),
        (ROW.replace("range", "typo"), "'kind' is one of"),
        (ROW.replace('"insert"', '"inserts"'), "'groups' is a list of groups"),
        (f'{ROW}since = "1"\n', "unknown key 'since'"),
        (f"{ROW}\n[[fault]]\n{ROW}", "the numbers do not ascend"),
    ],
)
def test_a_row_that_is_wrong_is_refused(tmp_path: Path, row: str, sentence: str) -> None:
    """An unknown key or a wrong value is an error that names the row."""
    (tmp_path / "faults.toml").write_text(f"[[fault]]\n{row}")
    with pytest.raises(UsageError, match=re.escape(sentence)):
        faults.load(tmp_path / "faults.toml")


def test_faults_are_chosen_by_number_function_or_file() -> None:
    """A glob matches functions and files; one that matches nothing is an error."""
    assert [fault.number for fault in faults.chosen(["5", "3"])] == [3, 5]
    assert {fault.function for fault in faults.chosen(["sk_psock_init"])} == {"sk_psock_init"}
    assert {fault.file for fault in faults.chosen(["*/udp_bpf.c"])} == {"net/ipv4/udp_bpf.c"}
    assert faults.chosen([]) == faults.faults()
    with pytest.raises(UsageError, match="--fault nix names no fault"):
        faults.chosen(["nix"])


@pytest.mark.parametrize(
    ("event", "kills"),
    [
        (case("a", Verdict.PASS), False),
        (case("a", Verdict.XFAIL), False),
        (case("a", Verdict.XPASS), False),
        (case("a", Verdict.INFRA), False),
        (case("a", Verdict.FAIL), True),
        (case("a", Verdict.PANIC), True),
        (case("a", Verdict.FAIL, flaky=True), False),
        (case("known", Verdict.FAIL), False),
    ],
)
def test_only_what_the_kernel_does_wrong_finds_a_fault(event: CaseEvent, kills: bool) -> None:
    """An xpass, a missing machine or a case that fails anyway does not count as finding a fault."""
    assert trial.kills(event, {"insert/known"}) is kills


def test_the_likely_groups_come_first_and_the_hammer_last() -> None:
    """First the quick cases of the likely groups, then everything."""
    first, second, third, fourth, last = trial.stages(FAULT, stress=False)

    assert first == ("--quick", "--case", "insert/*")
    assert (second, third, fourth) == (("--quick",), ("--case", "insert/*"), ())
    assert "hammer/*" in last


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Put a program in the place of `python -m conformance run`, which writes a log of these events."""

    def replace(*events: CaseEvent, code: int = 0, lasts: bool = False) -> Bench:
        log: list[Event] = [RunEvent(started="2026-11-30T12:00:00Z", command=()), *events]
        lines = "".join(f"{encode(event)}\n" for event in log)
        (tmp_path / "conformance.py").write_text(
            dedent(
                f"""
                import os, pathlib, signal, sys
                folder = pathlib.Path(sys.argv[sys.argv.index("--results") + 1])
                folder.mkdir()
                (folder / "events.jsonl").write_text({lines!r})
                (folder / "asked").write_text(" ".join([os.environ["SOCKMAP_FAULT"], *sys.argv]))
                if {lasts}:
                    signal.pause()
                sys.exit({code})
                """
            )
        )
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} {tmp_path}/conformance.py "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return Bench("debian:6.12", tmp_path / "results", 1)

    return replace


def test_a_run_ends_with_the_case_that_finds_the_fault(suite: Callable[..., Bench]) -> None:
    """The outcome names case, verdict and difference; the rest of the run is not waited for."""
    bench = suite(GOOD, case("b", Verdict.FAIL, differences=("wanted ok, got EINVAL",)), lasts=True)
    outcome = trial.attempt(FAULT, bench, frozenset())

    assert (outcome.killed_by, outcome.verdict, outcome.said) == ("insert/b", "fail", "wanted ok, got EINVAL")
    assert outcome.seconds < 30
    asked = (bench.folder / "fault-007" / "stage-0" / "asked").read_text()
    assert asked.startswith("7 ")
    assert len(list((bench.folder / "fault-007").glob("stage-*.log"))) == 1


def test_a_fault_that_no_stage_finds_survives(suite: Callable[..., Bench]) -> None:
    """A fault survives only after every stage was run, perhaps in several runs."""
    bench = suite(GOOD, case("b", Verdict.XPASS))
    outcome = None
    while trial.unsettled(FAULT, bench, outcome):
        outcome = trial.attempt(FAULT, bench, frozenset(), outcome)
        trial.save(bench.folder, outcome)
        outcome = trial.recall(bench.folder, FAULT.number)

    assert outcome is not None
    assert (outcome.killed_by, outcome.error, outcome.cases, outcome.stages) == ("", "", 10, 5)
    assert len(list((bench.folder / "fault-007").glob("stage-*.log"))) == 5


def test_what_is_wrong_without_a_fault_finds_none(suite: Callable[..., Bench]) -> None:
    """The kernel without a fault is asked first."""
    bench = suite(GOOD, case("b", Verdict.FAIL))
    clean = trial.baseline(bench)

    assert clean.unexpected == ("insert/b",)
    assert trial.attempt(FAULT, bench, frozenset(clean.unexpected)).killed_by == ""


def test_a_kernel_that_cannot_be_judged_is_no_outcome(suite: Callable[..., Bench]) -> None:
    """Neither found nor survived; a host that cannot run the suite is an error."""
    assert trial.attempt(FAULT, suite(code=125), frozenset()).error == "the run ended without a verdict"


def test_a_kernel_without_the_faults_is_no_outcome(suite: Callable[..., Bench]) -> None:
    """A case without an answer says nothing about a fault."""
    assert trial.attempt(FAULT, suite(case("a", Verdict.INFRA)), frozenset()).error == "the run ended without a verdict"


class Taker:
    """A machine whose kernel takes a fault, or another one than it was asked to."""

    def __init__(self, number: str) -> None:
        """It takes fault `number`."""
        self.reply = Reply(CallStatus.ANSWERED, value=number)

    def call(self, function: str, arguments: dict[str, str], *, deadline: float) -> Reply:
        """Answer."""
        assert (function, arguments) == ("conformance.guestlib.kernel_fault:choose", {"number": "17"})
        assert deadline > 0
        return self.reply


def test_a_machine_takes_its_fault_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpatched kernel is an error, not a kernel with surviving faults."""
    asked: list[Callable[[Machine], None]] = []
    monkeypatch.setattr(machine_pool, "_planted", asked)
    planted.plant("17")
    (ask,) = asked

    ask(cast("Machine", Taker("17")))
    with pytest.raises(KernelError, match="does not take fault 17: '0'"):
        ask(cast("Machine", Taker("0")))


def test_a_broken_host_is_an_error(suite: Callable[..., Bench]) -> None:
    """A broken host is an error, and no outcome of a fault."""
    with pytest.raises(HostError, match="the suite cannot run here"):
        trial.attempt(FAULT, suite(code=128), frozenset())


def test_outcomes_are_kept(tmp_path: Path) -> None:
    """A stored outcome is not tried again; a damaged file is ignored."""
    outcome = Outcome(7, "insert/b", "fail", "x", 1.0, 2)
    trial.save(tmp_path, outcome)

    assert trial.recall(tmp_path, 7) == outcome
    (tmp_path / "fault-007.json").write_text("{")
    assert trial.recall(tmp_path, 7) is None


@pytest.mark.parametrize(("killed_by", "code"), [("insert/b", ExitCode.OK), ("", ExitCode.UNEXPECTED)])
def test_a_survivor_without_a_reason_is_unexpected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], killed_by: str, code: ExitCode
) -> None:
    """The table names what found each fault, and at its end the functions that no fault touches."""
    trial.save(tmp_path, Outcome(1, killed_by, "fail", "x", 1.0, 2, stages=9))
    options = argparse.Namespace(
        fault=["1"], results=str(tmp_path), list=False, again=False, n=1, stress=False, kernel=""
    )

    assert teeth.teeth(options) == code
    printed = capsys.readouterr().out
    assert ("found by insert/b" if killed_by else "NOT FOUND") in printed
    assert "No fault touches:" in printed
    assert "sock_map_progs" in printed
