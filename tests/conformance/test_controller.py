# SPDX-License-Identifier: GPL-2.0-only
"""A run's exit code is fit for `git bisect run`, and no case is ever silently absent."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from xdist import dsession

from common.errors import ConformError, ExitCode, HostError, HungUp, KernelError, Terminated, UsageError
from conformance.groups import GROUPS, cases
from conformance.groups.redirect.cases import redirect_cases
from conformance.judge.needs import symbols_needed, unmet
from conformance.model import KernelFacts, Verdict
from conformance.report.event_types import CaseEvent, KernelEvent, RunEvent
from conformance.report.events import Run, read
from conformance.run import kernels, plugin
from conformance.run import stash as stash_keys
from conformance.run.case_record import FAULT, RECORD, event_of
from conformance.run.controller import Controller, planned_among
from conformance.run.options import by_slug
from conformance.run.recorder import RunRecorder
from kernels.kernel import Kernel
from kernels.resolve import resolve as known
from kernels.version import Version
from vm.machine import MachineOptions

SPECS = {"debian-6.12": "debian:6.12", "debian-6.12-cloud": "debian:6.12/cloud"}
NODE = "conformance/cases/test_redirect.py::test_redirect[debian-6.12-cloud-sockmap-send-to-local-tcp4-udp4]"


def _case(verdict: Verdict, name: str = "x") -> CaseEvent:
    return CaseEvent(kernel="debian-6.12", group="redirect", name=name, id=f"redirect/{name}", verdict=verdict)


def _recorder(*verdicts: Verdict, error: str = "") -> RunRecorder:
    recorder = RunRecorder(run=Run(RunEvent(started="", command=())))
    recorder.add(KernelEvent(spec="debian:6.12", slug="debian-6.12", error=error))
    for number, verdict in enumerate(verdicts):
        recorder.add(_case(verdict, f"x{number}"))
    return recorder


class TestExitCode:
    """The exit code for the verdicts of a run."""

    @pytest.mark.parametrize(
        ("verdicts", "code"),
        [
            ((Verdict.PASS, Verdict.XFAIL, Verdict.SKIP), ExitCode.OK),
            ((Verdict.PASS, Verdict.FAIL), ExitCode.UNEXPECTED),
            ((Verdict.PASS, Verdict.XPASS), ExitCode.UNEXPECTED),
            ((Verdict.PASS, Verdict.PANIC, Verdict.INFRA), ExitCode.UNEXPECTED),
            ((Verdict.PASS, Verdict.INFRA), ExitCode.CANNOT_JUDGE),
            ((Verdict.SKIP, Verdict.SKIP), ExitCode.CANNOT_JUDGE),
            ((), ExitCode.CANNOT_JUDGE),
        ],
    )
    def test_verdicts(self, verdicts: tuple[Verdict, ...], code: ExitCode) -> None:
        """Unexpected outranks infra, and a run that judged nothing did not pass."""
        assert _recorder(*verdicts).exit_code() is code

    def test_a_case_that_the_host_spoilt(self) -> None:
        """A host that kills QEMU stops a bisection, unless another case judges the commit."""
        recorder = _recorder(Verdict.PASS)
        recorder.add(replace(_case(Verdict.INFRA, "y"), host=True))
        assert recorder.exit_code() is ExitCode.BROKEN

        recorder.add(_case(Verdict.FAIL, "z"))
        assert recorder.exit_code() is ExitCode.UNEXPECTED

    def test_a_kernel_without_a_machine(self) -> None:
        """A kernel that could not be judged skips the commit although another kernel passed."""
        assert _recorder(Verdict.PASS, error="it does not boot").exit_code() is ExitCode.CANNOT_JUDGE

    def test_a_kernel_that_the_host_could_not_get(self) -> None:
        """A host that cannot fetch or build one of several kernels stops a bisection."""
        recorder = _recorder(Verdict.PASS)
        recorder.add(KernelEvent(spec="tree:.", slug="tree-linux", error="no space left", host=True))
        assert recorder.exit_code() is ExitCode.BROKEN

    def test_a_case_that_never_ran(self) -> None:
        """A selected case without a verdict is not a pass."""
        recorder = RunRecorder(run=Run(RunEvent(started="", command=(), selected={"debian-6.12": 2})))
        recorder.add(_case(Verdict.PASS))
        assert recorder.exit_code() is ExitCode.CANNOT_JUDGE

        recorder.add(_case(Verdict.FAIL, "y"))
        assert recorder.exit_code() is ExitCode.UNEXPECTED

    def test_interrupted(self) -> None:
        """An interrupted run says so whatever it had seen."""
        recorder = _recorder(Verdict.FAIL)
        recorder.interrupted = ExitCode.TERMINATED

        assert recorder.exit_code() is ExitCode.TERMINATED


def _hear(error: BaseException) -> RunRecorder:
    recorder = _recorder(Verdict.PASS)
    controller = Controller.__new__(Controller)
    controller.recorder = recorder
    with pytest.raises(type(error)) as excinfo:
        raise error
    controller.pytest_keyboard_interrupt(excinfo)
    return recorder


class TestInterruption:
    """Only a signal interrupts a run: pytest and xdist stop their sessions by exceptions of the same family."""

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated(), HungUp()])
    def test_a_signal(self, error: BaseException) -> None:
        """Ctrl-C, SIGTERM and SIGHUP stop a bisection."""
        assert _hear(error).exit_code() >= ExitCode.BROKEN

    @pytest.mark.parametrize("error", [pytest.Session.Interrupted("--sw"), dsession.Interrupted("-x")])
    def test_a_session_that_stops_itself(self, error: BaseException) -> None:
        """A session that pytest stops after the first failure is not reported as interrupted."""
        assert _hear(error).exit_code() is ExitCode.OK


class TestEventOf:
    """From pytest's report to the event log."""

    def _report(
        self,
        *,
        when: Literal["setup", "call", "teardown"] = "call",
        outcome: Literal["passed", "failed", "skipped"] = "passed",
        record: Mapping[str, object] | None = None,
        longrepr: str | None = None,
    ) -> pytest.TestReport:
        properties: list[tuple[str, object]] = [] if record is None else [(RECORD, json.dumps(record))]
        return pytest.TestReport(
            nodeid=NODE,
            location=("", 0, ""),
            keywords={},
            outcome=outcome,
            longrepr=longrepr,
            when=when,
            user_properties=properties,
        )

    def test_a_record_becomes_an_event_once(self) -> None:
        """The record becomes an event after the teardown, with the command that repeats the case."""
        record = {"kernel": "debian-6.12-cloud", "group": "redirect", "name": "n", "id": "redirect/n",
                  "verdict": "pass", "differences": []}  # fmt: skip

        event = event_of(self._report(when="teardown", record=record), SPECS, "./conform run")

        assert event is not None
        assert event.verdict is Verdict.PASS
        assert event.repeat == "./conform run --kernel debian:6.12/cloud --case redirect/n"
        assert event_of(self._report(when="call", record=record), SPECS, "./conform run") is None

    @pytest.mark.parametrize(("verdict", "after"), [("pass", Verdict.INFRA), ("splat", Verdict.SPLAT)])
    def test_a_failed_teardown_is_infra(self, verdict: str, after: Verdict) -> None:
        """A pass whose teardown failed becomes infra; a worse verdict stays, and both are named."""
        record = {"kernel": "debian-6.12-cloud", "group": "redirect", "name": "n", "id": "redirect/n",
                  "verdict": verdict, "differences": ["x"]}  # fmt: skip
        report = self._report(when="teardown", outcome="failed", longrepr="E  boom", record=record)

        event = event_of(report, SPECS, "./conform run")

        assert event is not None
        assert (event.verdict, event.host) == (after, after is Verdict.INFRA)
        assert event.differences[0] == "x"
        assert "boom" in event.differences[1]

    def test_a_failure_without_record_is_infra(self) -> None:
        """A crashed worker or a broken fixture costs the case its verdict, not its place."""
        report = self._report(when="setup", outcome="failed", longrepr="boom\nE  worker crashed")

        event = event_of(report, SPECS, "./conform run")

        assert event is not None
        assert (event.kernel, event.name) == ("debian-6.12-cloud", "sockmap-send-to-local-tcp4-udp4")
        assert (event.verdict, event.host) == (Verdict.INFRA, True)
        assert "worker crashed" in event.differences[0]

    def test_a_skip_without_record_is_infra(self) -> None:
        """Only the judge may skip a case: a pytest mark would remove it silently."""
        event = event_of(self._report(when="setup", outcome="skipped", longrepr="unconditional skip"), SPECS, "")

        assert event is not None
        assert event.verdict is Verdict.INFRA
        assert "unconditional skip" in event.differences[0]

    def test_a_passing_setup_is_no_event(self) -> None:
        """Only a case with a verdict is an event."""
        assert event_of(self._report(when="setup"), SPECS, "./conform run") is None


def test_cases_are_planned_by_kernel() -> None:
    """Only node ids of cases count, each for its kernel; a kernel without any is not planned."""
    others = [NODE.replace("cloud-", ""), "tests/test_other.py::test_it", "tests/test_other.py::test_it[debian-5.10-x]"]

    planned = planned_among([NODE, *others], {"debian-7.3": "debian:7.3", **SPECS})

    case = frozenset({"redirect/sockmap-send-to-local-tcp4-udp4"})
    assert list(planned.items()) == [("debian-6.12", case), ("debian-6.12-cloud", case)]


def test_results_are_on_disk(tmp_path: Path) -> None:
    """The folder of a finished run holds the log, whole, and the summary."""
    recorder = RunRecorder(results=tmp_path)
    recorder.begin({"debian-6.12": frozenset({"redirect/x"})})
    recorder.add(_case(Verdict.FAIL))

    code = recorder.end(1.5)

    run = read(tmp_path)
    assert code is ExitCode.UNEXPECTED
    assert [case.id for case in run.unexpected()] == ["redirect/x"]
    assert run.start.selected == {"debian-6.12": 1}
    assert run.finish is not None
    assert run.finish.exit_code == 1
    assert json.loads((tmp_path / "summary.json").read_text())["kernels"][0]["unexpected"] == ["redirect/x"]


def test_what_a_kernel_lacks_is_said_before_it_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note names each missing CONFIG symbol and counts the chosen cases that need it; a complete kernel has none."""
    chosen = {case.id: case for case in cases() if case.group in ("tls", "insert")}
    said: list[str] = []
    config = dict.fromkeys(symbols_needed(), "y")
    lacking = KernelFacts(Version(6, 12, 118), {**config, "TLS": "n"})
    grounds = [unmet(case, lacking) for case in chosen.values()]
    number = sum(ground is not None and ground.reason.startswith("CONFIG_TLS ") for ground in grounds)
    assert number > len(GROUPS["tls"].cases())  # TLS sockets are inserted, too

    def started(pool: object, slugs: Sequence[str], note: object) -> list[KernelEvent]:
        said.append("booted")
        return [KernelEvent(spec=slug, slug=slug) for slug in slugs]

    monkeypatch.setattr(kernels, "kernel_events", started)
    monkeypatch.setattr(RunRecorder, "note", lambda recorder, text: said.append(text))
    for missing, notes in (
        ({}, []),
        (
            {"TLS": "n"},
            [f"./built: CONFIG_TLS is not set, which disables every case with kernel TLS: {number} cases will be"],
        ),
    ):
        said.clear()
        facts = replace(lacking, config={**config, **missing})
        monkeypatch.setattr(kernels, "resolve", lambda spec, progress, facts=facts: facts)
        kernels.make_ready(RunRecorder(), {"built": "./built"}, MachineOptions(), chosen={"built": chosen})
        assert said.pop() == "booted"
        assert [note.removesuffix(" skipped") for note in said] == notes


class TestBadSpecs:
    """A kernel that cannot be resolved costs its own results, not those of the others."""

    def _ready(self, monkeypatch: pytest.MonkeyPatch, *specs: str) -> RunRecorder:
        monkeypatch.setattr(
            kernels,
            "kernel_events",
            lambda pool, slugs, note: [KernelEvent(spec=slug, slug=slug) for slug in slugs],
        )
        recorder = RunRecorder()
        kernels.make_ready(recorder, by_slug(specs), MachineOptions())
        return recorder

    def test_one_of_several(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel has an event with sentence and hint; the others are judged; the exit code is the error's."""
        recorder = self._ready(monkeypatch, "./nowhere", "host", "redhat:9")

        assert [(event.slug, bool(event.error)) for event in recorder.kernels] == [
            ("host", False),
            ("._nowhere", True),
            ("redhat_9", True),
        ]
        assert recorder.kernels[1].error == "no such file or directory: ./nowhere"
        assert recorder.kernels[1].hint

        recorder.begin({"host": frozenset(["redirect/x"])})
        recorder.add(replace(_case(Verdict.PASS), kernel="host"))
        assert recorder.exit_code() is ExitCode.BROKEN

    @pytest.mark.parametrize(
        "error", [KernelError("it does not build", hint="h"), HostError("no space left", hint="h")]
    )
    def test_who_is_to_blame(self, monkeypatch: pytest.MonkeyPatch, error: ConformError) -> None:
        """A tree that does not build is skipped by a bisection; a disk that is full stops it."""

        def resolve(spec: str, **more: object) -> Kernel:
            if spec == "tree:.":
                raise error
            return known(spec)

        monkeypatch.setattr(kernels, "resolve", resolve)
        recorder = self._ready(monkeypatch, "tree:.", "host")
        recorder.begin({"host": frozenset(["redirect/x"])})
        recorder.add(replace(_case(Verdict.PASS), kernel="host"))
        assert recorder.exit_code() is error.exit_code

    def test_all_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing can be judged the first error ends the run, with its own exit code."""
        with pytest.raises(UsageError, match="nowhere"):
            self._ready(monkeypatch, "./nowhere", "redhat:9")


LIMIT = "this host has no more to give: Too many open files"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UsageError("row 6: 'exit' is never 'x'", hint="h"), "row 6: 'exit' is never 'x'"),
        (HostError("no space left", hint="h"), "no space left"),
        (OSError(errno.EMFILE, "Too many open files"), LIMIT),
    ],
)
def test_a_wrong_table_or_host_stops_the_session(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    """The session stops before the next case, and the report has the sentence and the hint."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(plugin, "examine", fail)
    options = SimpleNamespace(lists=None, repetition=None, evidence_request=None)
    stash = {stash_keys.POOL: SimpleNamespace(expires=math.inf), stash_keys.OPTIONS: options}
    node = SimpleNamespace(stash={}, user_properties=[])
    session = SimpleNamespace(shouldstop=False)
    request = SimpleNamespace(config=SimpleNamespace(stash=stash), node=node, session=session)
    judgement, record = plugin._examined(request, "debian-6.12", redirect_cases()[0])  # type: ignore[arg-type]

    assert session.shouldstop == words
    assert judgement.verdict is Verdict.INFRA
    assert record["differences"] == [words]
    ((name, told),) = node.user_properties
    assert (name, json.loads(told)[0]) == (FAULT, words)
    assert json.loads(told)[1]


def test_a_broken_host_stops_a_bisection() -> None:
    """A host that breaks in mid-run outranks what was judged before."""
    recorder = _recorder(Verdict.FAIL)
    recorder.fault = HostError("no space left")

    assert recorder.exit_code() is ExitCode.BROKEN
