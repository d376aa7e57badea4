# SPDX-License-Identifier: GPL-2.0-only
"""Pytest hooks of the controlling process: make the kernels ready and gather the results."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConformError, interruption, lines_of
from conformance.report.event_types import CaseEvent
from conformance.report.forecast import Planned
from conformance.run.case_record import event_of, fault_of, named, unjudged
from conformance.run.deadline import PASSED, alarm
from conformance.run.kernels import make_ready
from conformance.run.quick_run import quick_of
from conformance.run.recorder import RunRecorder
from conformance.run.remote import outlive_lost_machines
from conformance.run.stash import BROKEN, DONE, OPTIONS, POOL, broken_in, kernel_of, specs_of


class Controller:
    """Pytest hooks of the process that owns the run."""

    def __init__(self, config: pytest.Config, recorder: RunRecorder | None = None) -> None:
        self._config = config
        asked = config.stash[OPTIONS]
        self.recorder = recorder or RunRecorder(results=asked.results, deadline=asked.deadline)
        self.recorder.shard = asked.shard
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
            outlive_lost_machines(distributor, self.recorder.note)

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
        if self.recorder.run is None and self.recorder.pool is not None:
            self._selected = ids
            self._begin(planned_among(ids, specs_of(self._config)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """End the run in time, whatever it hangs on."""
        with alarm(self.recorder.expires if self.recorder.pool is not None else math.inf):
            return (yield)

    def pytest_runtest_logstart(self, nodeid: str, location: object) -> None:
        """Pass on that a case begins, also in a worker."""
        slug, case = named(nodeid, specs_of(self._config))
        if slug:
            self.recorder.begun(slug, case.id)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in a finished case."""
        event = event_of(report, specs_of(self._config), self._config.stash[OPTIONS].repeat)
        if event is not None:
            self._add(event)
            if error := fault_of(report):
                self.recorder.fault = error
                pytest.exit(lines_of(error), returncode=int(error.exit_code))

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember the error that broke the session, for the command to report."""
        self.recorder.fault = excinfo.value

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember which signal ended the run; pytest's own stops come here, too.

        So does a passed deadline. Neither is an interruption.
        """
        self.recorder.interrupted = interruption(excinfo.value)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember the error of a failed collection, which ends the session."""
        if report.failed:
            last = report.longreprtext.strip().rpartition("\n")[2].removeprefix("E ").strip()
            hint = "see more with: pytest conformance --collect-only"
            self.recorder.fault = ConformError(f"cannot collect {report.nodeid}: {last}", hint=hint)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Close the log; the numbers stand."""
        if exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
            self.recorder.run = None
        if self.recorder.run is not None:
            self._give_up_the_rest()
            self.recorder.end(self._seconds())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the matrices below pytest's own output."""
        if self.recorder.run is not None and self.recorder.reporter is None:
            from conformance.report.text import report_lines

            terminalreporter.section("SOCKMAP conformance")
            for line in report_lines(self.recorder.run):
                terminalreporter.write_line(line)

    def _give_up_the_rest(self) -> None:
        """When the time is up, record every remaining case as not judged."""
        if time.monotonic() < self.recorder.expires or self.recorder.interrupted is not None:
            return
        for nodeid in self._selected:
            if nodeid not in self.recorder.seen and named(nodeid, specs_of(self._config))[0]:
                specs, repeat = specs_of(self._config), self._config.stash[OPTIONS].repeat
                self._add(unjudged(nodeid, f"not run: {PASSED}", specs, repeat))

    def _add(self, event: CaseEvent) -> None:
        self.recorder.add(replace(event, at=self._seconds()))

    def _seconds(self) -> float:
        """Return the seconds of the run so far, with those before it was resumed."""
        return round(self.recorder.earlier + time.monotonic() - self.recorder.began, 3)

    def _distributed(self) -> bool:
        return bool(getattr(self._config.option, "tx", None))

    def _prepare(self, specs: Mapping[str, str]) -> None:
        """Make the kernels ready unless the command did; ends the session if that fails."""
        if self.recorder.pool is not None:
            return
        try:
            make_ready(self.recorder, specs, self._config.stash[OPTIONS].machine)
        except ConformError as error:
            pytest.exit(lines_of(error), returncode=int(error.exit_code))
        self._adopt()

    def _adopt(self) -> None:
        self._config.stash[DONE] = frozenset(self.recorder.seen)
        if self.recorder.pool is not None:
            self._config.stash[POOL] = self.recorder.pool
            self._config.stash[BROKEN] = frozenset(event.slug for event in self.recorder.kernels if event.error)

    def _begin(self, planned: Planned) -> None:
        if planned or broken_in(self._config):
            self.recorder.quick = quick_of(self._config)
            self.recorder.begin(planned)


def planned_among(nodeids: Iterable[str], slugs: Iterable[str]) -> Planned:
    """Return the ids of the cases among pytest's node ids by the kernel's slug, kernels in the order of `slugs`."""
    planned: dict[str, set[str]] = {slug: set() for slug in slugs}
    for slug, case in (named(nodeid, planned) for nodeid in nodeids):
        if slug:
            planned[slug].add(case.id)
    return {slug: frozenset(ids) for slug, ids in planned.items() if ids}


def _asks_for_cases(config: pytest.Config) -> bool:
    """Return, from the command line, whether this session collects cases; xdist's controller collects none itself."""
    cases = Path(__file__).resolve().parents[1] / "cases"
    paths = (Path(argument.split("::")[0]).resolve() for argument in config.args)
    return not config.option.collectonly and any(
        cases == path or cases in path.parents or path in cases.parents for path in paths
    )
