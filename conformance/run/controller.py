# SPDX-License-Identifier: GPL-2.0-only
"""The controller's side of a run: kernels made ready, results gathered into the event log and shown."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConformError
from common.errors import DeadlinePassed
from common.errors import ExitCode
from common.errors import HostError
from common.errors import KernelError
from common.errors import Terminated
from conformance.model import Verdict
from conformance.report.events import NAME
from conformance.report.events import CaseEvent
from conformance.report.events import Event
from conformance.report.events import EventLog
from conformance.report.events import FinishEvent
from conformance.report.events import KernelEvent
from conformance.report.events import Run
from conformance.report.forecast import Planned
from conformance.report.forecast import remember
from conformance.report.live import Reporter
from conformance.report.summary import write_summary
from conformance.run import resume
from conformance.run.artifacts import has_evidence
from conformance.run.artifacts import store
from conformance.run.deadline import PASSED
from conformance.run.deadline import alarm
from conformance.run.deadline import expiry
from conformance.run.deadline import process_began
from conformance.run.deadline import told
from conformance.run.machine_pool import Workbench
from conformance.run.provenance import kernel_events
from conformance.run.provenance import run_event
from conformance.run.quick import Choice
from conformance.run.quick_run import quick_of
from conformance.run.record import event_of
from conformance.run.record import fault_of
from conformance.run.record import named
from conformance.run.record import unjudged
from conformance.run.remote import outlive_lost_machines
from conformance.run.stash import BROKEN
from conformance.run.stash import DONE
from conformance.run.stash import OPTIONS
from conformance.run.stash import WORKBENCH
from conformance.run.stash import broken_in
from conformance.run.stash import kernel_of
from conformance.run.stash import specs_of
from kernels.kernel import Kernel
from kernels.resolve import resolve
from vm.machine import MachineOptions

_NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class Ledger:
    """What a run has come to so far: events in memory, in the log, and before somebody's eyes."""

    reporter: Reporter | None = None
    results: Path | None = None
    deadline: float = 0.0
    """Seconds that the run may take; 0 for as long as it likes."""
    began: float = field(default_factory=process_began)
    before: Run | None = None
    """What the run had come to when it was interrupted, if it goes on now."""
    earlier: float = 0.0
    """Seconds that it took until then."""
    run: Run | None = None
    workbench: Workbench | None = None
    kernels: list[KernelEvent] = field(default_factory=list)
    """The kernels under test, once they are ready."""
    shard: str = ""
    """`I/N` if only a share of the cases is to be judged."""
    forgiving: bool = False
    """Whether a run of kernels none of which can be had has a report all the same."""
    quick: Mapping[str, Choice] = field(default_factory=dict)
    """With `--quick`, what was chosen for each kernel."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """What kernels and their shards took the last time, see `scheduler.durations`; the longest begin."""
    interrupted: ExitCode | None = None
    fault: BaseException | None = None
    """What broke the session itself: a full disk, or a fault of the suite."""
    seen: set[str] = field(default_factory=set)
    """Node ids of the cases that came to a verdict."""
    _evidence_is_lost: bool = False
    _log: EventLog | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Take over what was done before."""
        if self.before is not None:
            self.earlier = resume.seconds_of(self.before)
            self.seen |= resume.done(self.before)

    def open_log(self) -> None:
        """Open the event log, if one is wanted; raises HostError where it cannot be written."""
        if self.results is not None and self._log is None:
            self._log = EventLog(self.results / NAME, again=self.before is not None)

    @property
    def expires(self) -> float:
        """When, on the monotonic clock, to stop judging."""
        return expiry(self.deadline, self.began) if self.deadline else math.inf

    def make_ready(self, specs: Mapping[str, str], options: MachineOptions) -> None:
        """Resolve the kernels and make their templates; raises ConformError where the run cannot be done."""
        try:
            with alarm(self.expires):
                kernels, missing = self._resolved(specs)
                if self.before is not None:
                    resume.check_kernels(self.before, kernels)
                workbench = Workbench(kernels, options, self.expires)
                self.kernels = [*kernel_events(workbench, list(kernels), self.note), *missing]
        except DeadlinePassed:
            raise self.too_late() from None
        self.workbench = workbench

    def _resolved(self, specs: Mapping[str, str]) -> tuple[dict[str, Kernel], list[KernelEvent]]:
        """Resolve each spec; one that comes to no kernel costs only itself, unless there is no other."""
        kernels: dict[str, Kernel] = {}
        errors: dict[str, ConformError] = {}
        for slug, spec in specs.items():
            try:
                kernels[slug] = resolve(spec, progress=self.note)
            except ConformError as error:
                errors[slug] = error
        if not (kernels or self.forgiving):
            raise next(iter(errors.values()))
        missing = [
            KernelEvent(spec=specs[slug], slug=slug, error=str(error), hint=error.hint)
            for slug, error in errors.items()
        ]
        return kernels, missing

    def too_late(self) -> KernelError:
        """Say that time was up before there was any verdict."""
        return KernelError(
            f"the total deadline of {told(self.deadline)} passed before any case was judged",
            hint="give a longer one with --total-deadline",
        )

    def begin(self, planned: Planned) -> None:
        """Open the log; called once the cases have been collected."""
        self.open_log()
        if self.before is None:
            counts = {slug: len(ids) for slug, ids in planned.items()}
            start = replace(run_event(counts), deadline=self.deadline, shard=self.shard)
            self.run = Run(replace(start, quick={slug: each.told() for slug, each in self.quick.items()}))
            if self._log is not None:
                self._log.write(self.run.start)
        else:
            self.run = self.before
        if self.reporter is not None:
            self._retell(self.reporter, self.run, planned)
        for event in self.kernels:
            if event.slug in planned or event.error:
                self.add(event)

    @staticmethod
    def _retell(reporter: Reporter, run: Run, planned: Planned) -> None:
        """Tell a reporter what the run has come to already: for one that begins, nothing."""
        judged = {slug: frozenset(case.id for case in cases) for slug, cases in run.cases.items()}
        slugs = dict.fromkeys((*judged, *planned))
        reporter.start(run.start, {slug: judged.get(slug, _NONE) | planned.get(slug, _NONE) for slug in slugs})
        for kernel in run.kernels.values():
            reporter.kernel(kernel)
        for cases in run.cases.values():
            for case in cases:
                reporter.case(case)

    def note(self, text: str) -> None:
        """Show a line of progress."""
        if self.reporter is not None:
            self.reporter.note(text)

    def add(self, event: Event) -> None:
        """Take in an event: remember it, log it, show it."""
        if self.run is None:
            return
        if isinstance(event, CaseEvent) and self.results is not None and has_evidence(event):
            event = self._with_evidence(event, self.results)
        self.run.add(event)
        if isinstance(event, CaseEvent):
            self.seen.add(event.nodeid)
        if self._log is not None:
            self._log.write(event)
        if self.reporter is not None and isinstance(event, KernelEvent):
            self.reporter.kernel(event)
        if self.reporter is not None and isinstance(event, CaseEvent):
            self.reporter.case(event)

    def _with_evidence(self, event: CaseEvent, results: Path) -> CaseEvent:
        """Write a bad case's evidence and name its folder; that it cannot be written is told once."""
        try:
            return replace(event, evidence=str(store(results, event)))
        except HostError as error:
            if not self._evidence_is_lost:
                self.note(str(error))
            self._evidence_is_lost = True
            return event

    def end(self, seconds: float) -> ExitCode:
        """Close the log and return the run's exit code."""
        code = self.exit_code()
        if self.run is not None:
            self.add(FinishEvent(exit_code=int(code), seconds=round(seconds, 3), interrupted=bool(self.interrupted)))
            if self.reporter is not None:
                self.reporter.finish(self.run)
            remember(self.run)
            if self.results is not None:
                write_summary(self.run, self.results)
        if self._log is not None:
            self._log.close()
        return code

    def exit_code(self) -> ExitCode:
        """Say what the run came to: see `./conform run --help`."""
        if self.interrupted is not None:
            return self.interrupted
        if self.run is None or isinstance(self.fault, HostError):
            return ExitCode.BROKEN
        counts = self.run.counts()
        if any(counts[verdict] for verdict in Verdict if not verdict.expected and verdict is not Verdict.INFRA):
            return ExitCode.UNEXPECTED
        judged = sum(counts[verdict] for verdict in Verdict if verdict not in (Verdict.SKIP, Verdict.INFRA))
        dead = any(kernel.error for kernel in self.run.kernels.values())
        cannot = counts[Verdict.INFRA] or not judged or dead or self.run.unseen()
        return ExitCode.CANNOT_JUDGE if cannot else ExitCode.OK


class Controller:
    """Pytest hooks of the process that owns the run."""

    def __init__(self, config: pytest.Config, ledger: Ledger | None = None) -> None:
        self._config = config
        asked = config.stash[OPTIONS]
        self.ledger = ledger or Ledger(results=asked.results, deadline=asked.deadline)
        self.ledger.shard = asked.shard
        self._selected: list[str] = []
        """Node ids of all cases."""
        self._adopt()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Make the kernels ready before xdist starts its workers, which collect on their own."""
        if self._distributed() and _asks_for_cases(self._config):
            self._prepare(specs_of(self._config))
        distributor = self._config.pluginmanager.get_plugin("dsession")
        if distributor is not None:
            outlive_lost_machines(distributor, self.ledger.note)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Make ready the kernels that the collected cases need, and begin."""
        if self._config.option.collectonly or self._distributed():
            return
        self._selected = [item.nodeid for item in session.items if kernel_of(item)]
        planned = planned_among(self._selected, specs_of(self._config))
        if planned:
            self._prepare({slug: spec for slug, spec in specs_of(self._config).items() if slug in planned})
        self._begin(planned)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Begin with what the first worker collected; all collect the same."""
        if self.ledger.run is None and self.ledger.workbench is not None:
            self._selected = ids
            self._begin(planned_among(ids, specs_of(self._config)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """End the run in time, whatever it hangs on."""
        with alarm(self.ledger.expires if self.ledger.workbench is not None else math.inf):
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in a finished case."""
        event = event_of(report, specs_of(self._config), self._config.stash[OPTIONS].repeat)
        if event is not None:
            self._add(event)
            if error := fault_of(report):
                self.ledger.fault = error
                pytest.exit(f"{error}\n  hint: {error.hint}", returncode=int(error.exit_code))

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember what broke the session, for the command to tell."""
        self.ledger.fault = excinfo.value

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember which signal ended the run; sessions that stop themselves come here too, with other types.

        So does one whose time is up: that is no interruption.
        """
        codes: dict[type[BaseException], ExitCode] = {
            KeyboardInterrupt: ExitCode.INTERRUPTED,
            Terminated: ExitCode.TERMINATED,
        }
        self.ledger.interrupted = codes.get(type(excinfo.value))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember what keeps cases from being collected: without them the session ends."""
        if report.failed:
            last = report.longreprtext.strip().rpartition("\n")[2].removeprefix("E ").strip()
            hint = "see more with: pytest conformance --collect-only"
            self.ledger.fault = ConformError(f"cannot collect {report.nodeid}: {last}", hint=hint)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Close the log; the numbers stand."""
        if exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
            self.ledger.run = None
        if self.ledger.run is not None:
            self._give_up_the_rest()
            self.ledger.end(self._seconds())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the matrices below pytest's own output."""
        if self.ledger.run is not None and self.ledger.reporter is None:
            from conformance.report.text import report_lines

            terminalreporter.section("SOCKMAP conformance")
            for line in report_lines(self.ledger.run):
                terminalreporter.write_line(line)

    def _give_up_the_rest(self) -> None:
        """Where time is up, have every case that was not judged say so."""
        if time.monotonic() < self.ledger.expires or self.ledger.interrupted is not None:
            return
        for nodeid in self._selected:
            if nodeid not in self.ledger.seen and named(nodeid, specs_of(self._config))[0]:
                specs, repeat = specs_of(self._config), self._config.stash[OPTIONS].repeat
                self._add(unjudged(nodeid, f"not run: {PASSED}", specs, repeat))

    def _add(self, event: CaseEvent) -> None:
        self.ledger.add(replace(event, at=self._seconds()))

    def _seconds(self) -> float:
        """Return how long the run takes so far, its earlier sittings included."""
        return round(self.ledger.earlier + time.monotonic() - self.ledger.began, 3)

    def _distributed(self) -> bool:
        return bool(getattr(self._config.option, "tx", None))

    def _prepare(self, specs: Mapping[str, str]) -> None:
        """Make the kernels ready unless the command did; ends the session where that cannot be done."""
        if self.ledger.workbench is not None:
            return
        try:
            self.ledger.make_ready(specs, self._config.stash[OPTIONS].machine)
        except ConformError as error:
            pytest.exit(f"{error}\n  hint: {error.hint}", returncode=int(error.exit_code))
        self._adopt()

    def _adopt(self) -> None:
        self._config.stash[DONE] = frozenset(self.ledger.seen)
        if self.ledger.workbench is not None:
            self._config.stash[WORKBENCH] = self.ledger.workbench
            self._config.stash[BROKEN] = frozenset(event.slug for event in self.ledger.kernels if event.error)

    def _begin(self, planned: Planned) -> None:
        if planned or broken_in(self._config):
            self.ledger.quick = quick_of(self._config)
            self.ledger.begin(planned)


def planned_among(nodeids: Iterable[str], slugs: Iterable[str]) -> Planned:
    """Return the ids of the cases among pytest's node ids by the kernel's slug, kernels in the order of `slugs`."""
    planned: dict[str, set[str]] = {slug: set() for slug in slugs}
    for slug, case in (named(nodeid, planned) for nodeid in nodeids):
        if slug:
            planned[slug].add(case.id)
    return {slug: frozenset(ids) for slug, ids in planned.items() if ids}


def _asks_for_cases(config: pytest.Config) -> bool:
    """Tell from the command line whether this session collects cases; xdist's controller collects nothing itself."""
    cases = Path(__file__).resolve().parents[1] / "cases"
    paths = (Path(argument.split("::")[0]).resolve() for argument in config.args)
    return not config.option.collectonly and any(
        cases == path or cases in path.parents or path in cases.parents for path in paths
    )
