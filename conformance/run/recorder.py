# SPDX-License-Identifier: GPL-2.0-only
"""What a run has come to: events remembered, written into the event log, and shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.errors import ExitCode, HostError
from conformance.report.events import NAME, CaseEvent, Event, EventLog, FinishEvent, KernelEvent, Run
from conformance.report.exit_code import exit_code_of
from conformance.report.forecast import Planned, remember
from conformance.report.live import Reporter
from conformance.report.summary import write_summary
from conformance.run import resume
from conformance.run.artifacts import has_evidence, store
from conformance.run.deadline import expiry, process_began
from conformance.run.machine_pool import Workbench
from conformance.run.provenance import run_event
from conformance.run.quick import QuickSelection
from conformance.run.results import Claim

_NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class RunRecorder:
    """What a run has come to so far: events in memory, in the log, and before somebody's eyes."""

    reporter: Reporter | None = None
    results: Path | None = None
    claim: Claim | None = None
    """Of the results folder; made with the log where the command has made none."""
    deadline: float = 0.0
    """Seconds that the run may take; 0 for as long as it likes."""
    began: float = field(default_factory=process_began)
    before: Run | None = None
    """What the run had come to when it was interrupted, if it goes on now."""
    earlier: float = 0.0
    """Seconds that it took until then."""
    run: Run | None = None
    workbench: Workbench | None = None
    """The kernels at hand and their machine; see `kernels.make_ready`."""
    kernels: list[KernelEvent] = field(default_factory=list)
    """The kernels under test, once they are ready."""
    shard: str = ""
    """`I/N` if only a share of the cases is to be judged."""
    forgiving: bool = False
    """Whether a run of kernels none of which can be had has a report all the same."""
    quick: Mapping[str, QuickSelection] = field(default_factory=dict)
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
        """Open the event log, if one is wanted; raises ConformError where it cannot be written, or must not be."""
        if self.results is not None and self._log is None:
            self.claim = self.claim or Claim(self.results, again=self.before is not None)
            self._log = EventLog(self.results / NAME, again=self.before is not None)

    @property
    def expires(self) -> float:
        """When, on the monotonic clock, to stop judging."""
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
        """Tell a reporter what the run has come to already: for one that begins, nothing."""
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
        if self.claim is not None:
            self.claim.release()
        return code

    def exit_code(self) -> ExitCode:
        """Say what the run came to: see `./conform run --help`."""
        if self.interrupted is not None:
            return self.interrupted
        if self.run is None or isinstance(self.fault, HostError):
            return ExitCode.BROKEN
        return exit_code_of(self.run)
