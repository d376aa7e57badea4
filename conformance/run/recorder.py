# SPDX-License-Identifier: GPL-2.0-only
"""Record the events of a run: in memory, in the event log, and in the live view."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.errors import ExitCode, HostError
from conformance.report.event_types import CaseEvent, Event, FinishEvent, KernelEvent
from conformance.report.events import NAME, EventLog, Run
from conformance.report.exit_code import exit_code_of
from conformance.report.forecast import Planned, remember
from conformance.report.live import Reporter
from conformance.report.summary import write_summary
from conformance.run import resume
from conformance.run.artifacts import has_evidence, store
from conformance.run.deadline import expiry, process_began
from conformance.run.machine_pool import MachinePool
from conformance.run.provenance import run_event
from conformance.run.quick import QuickSelection
from conformance.run.results import Claim

_NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class RunRecorder:
    """Records the events of a run in memory and in the log, and passes them to the reporter."""

    reporter: Reporter | None = None
    results: Path | None = None
    claim: Claim | None = None
    """The claim on the results folder; made with the log if the command has made none."""
    deadline: float = 0.0
    """Seconds that the run may take; 0 for as long as it likes."""
    began: float = field(default_factory=process_began)
    before: Run | None = None
    """The results of the interrupted run, if this run resumes one."""
    earlier: float = 0.0
    """Seconds that the interrupted run took."""
    run: Run | None = None
    pool: MachinePool | None = None
    """The kernels and their machine; see `kernels.make_ready`."""
    kernels: list[KernelEvent] = field(default_factory=list)
    """The kernels under test, once they are ready."""
    shard: str = ""
    """`I/N` if only a share of the cases is to be judged."""
    forgiving: bool = False
    """Whether a run has a report even if no kernel can be judged."""
    quick: Mapping[str, QuickSelection] = field(default_factory=dict)
    """With `--quick`, the selection for each kernel."""
    durations: Mapping[str, float] = field(default_factory=dict)
    """Durations of kernels and shards in the last run, see `scheduler.durations`; the longest start first."""
    interrupted: ExitCode | None = None
    fault: BaseException | None = None
    """The error that ended the session: a full disk, or a fault of the suite."""
    seen: set[str] = field(default_factory=set)
    """Node ids of the cases with a verdict."""
    _evidence_is_lost: bool = False
    _log: EventLog | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Take over the results of a resumed run."""
        if self.before is not None:
            self.earlier = resume.seconds_of(self.before)
            self.seen |= resume.done(self.before)

    def open_log(self) -> None:
        """Open the event log, if one is wanted; raises ConformError if it cannot be written or is not ours."""
        if self.results is not None and self._log is None:
            self.claim = self.claim or Claim(self.results, again=self.before is not None)
            self._log = EventLog(self.results / NAME, again=self.before is not None)

    @property
    def expires(self) -> float:
        """The time on the monotonic clock at which judging stops."""
        return expiry(self.deadline, self.began) if self.deadline else math.inf

    def begin(self, planned: Planned) -> None:
        """Open the log; called once the cases have been collected."""
        self.open_log()
        if self.before is None:
            counts = {slug: len(ids) for slug, ids in planned.items()}
            start = replace(run_event(counts), deadline=self.deadline, shard=self.shard)
            self.run = Run(replace(start, quick={slug: each.counts() for slug, each in self.quick.items()}))
            if self._log is not None:
                self._log.write(self.run.start)
        else:
            self.run = self.before
        if self.reporter is not None:
            self._replay(self.reporter, self.run, planned)
        for event in self.kernels:
            if event.slug in planned or event.error:
                self.add(event)

    @staticmethod
    def _replay(reporter: Reporter, run: Run, planned: Planned) -> None:
        """Pass the results of a resumed run to the reporter."""
        judged = {slug: frozenset(case.id for case in cases) for slug, cases in run.cases.items()}
        slugs = dict.fromkeys((*judged, *planned))
        planned = {slug: judged.get(slug, _NONE) | planned.get(slug, _NONE) for slug in slugs}
        reporter.start(run.start, planned, run if judged or run.kernels else None)

    def phase(self, text: str) -> None:
        """Show what the run does before its first case."""
        if self.reporter is not None:
            self.reporter.phase(text)

    def begun(self, slug: str, case: str) -> None:
        """Show that a case runs."""
        if self.reporter is not None and self.run is not None:
            self.reporter.begun(slug, case)

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
        """Write an unexpected case's evidence and name its folder; a failure to write is reported once."""
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
        if self.claim is not None:
            self.claim.release()
        return code

    def exit_code(self) -> ExitCode:
        """Return the exit code of the run: see `./conform run --help`."""
        if self.interrupted is not None:
            return self.interrupted
        if self.run is None or isinstance(self.fault, HostError):
            return ExitCode.BROKEN
        return exit_code_of(self.run)
