# SPDX-License-Identifier: GPL-2.0-only
"""No run exceeds its total deadline, whatever it hangs on."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies

from common.errors import DeadlinePassed, KernelError, UsageError
from conformance.model import Verdict
from conformance.run import controller, kernels
from conformance.run.controller import Controller
from conformance.run.deadline import alarm, duration, expiry, process_began, seconds_of
from conformance.run.machine_pool import MachinePool
from conformance.run.recorder import RunRecorder
from vm.machine import MachineOptions

NODES = [f"conformance/cases/test_redirect.py::test_redirect[host-sockmap-ingress-to-local-udp4-{kind}]"
         for kind in ("tcp4", "udp4", "unix_dgram")]  # fmt: skip


class TestDurations:
    """Durations as users write them."""

    @pytest.mark.parametrize(
        ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), (" 2m5s ", 125)]
    )
    def test_read(self, text: str, seconds: float) -> None:
        """Hours, minutes and seconds, each only if there are any."""
        assert seconds_of(text) == seconds

    @pytest.mark.parametrize("text", ["", "0", "0s", "-5", "soon", "1.2.3s", "5d", "30s10m", "inf"])
    def test_refused(self, text: str) -> None:
        """An invalid or zero duration is named."""
        with pytest.raises(UsageError, match="not a duration"):
            seconds_of(text)

    @given(strategies.integers(1, 10**6))
    def test_as_written(self, seconds: int) -> None:
        """A duration reads the way it is written."""
        assert seconds_of(duration(seconds)) == seconds

    def test_there_is_time_to_tell(self) -> None:
        """Judging ends before the deadline, so that the report is out by then."""
        assert expiry(10.0, 100.0) == 105.0
        assert expiry(3600.0, 100.0) == 3690.0

    def test_a_run_begins_with_its_process(self) -> None:
        """Start and imports count too."""
        assert 0 < time.monotonic() - process_began() < 3600


class TestAlarm:
    """The alarm that ends a hanging run."""

    @pytest.fixture(autouse=True)
    def _quiet_after(self) -> Iterator[None]:
        """Every alarm is off again, and its signal has its old handler."""
        before = signal.getsignal(signal.SIGALRM)
        yield
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) is before

    def test_it_ends_a_wait(self) -> None:
        """The alarm ends every wait of the main thread."""
        with pytest.raises(DeadlinePassed), alarm(time.monotonic() + 0.05):
            threading.Event().wait(60)

    def test_a_time_that_is_past(self) -> None:
        """An alarm for a past time fires at once."""
        with pytest.raises(DeadlinePassed), alarm(time.monotonic() - 1):
            threading.Event().wait(60)

    def test_the_outer_one_goes_on(self) -> None:
        """An inner alarm that did not fire restores the outer one."""

        def wait() -> None:
            with alarm(time.monotonic() + 60):
                pass
            threading.Event().wait(60)

        with pytest.raises(DeadlinePassed), alarm(time.monotonic() + 0.2):
            wait()

    def test_none(self) -> None:
        """Without a deadline no signal is touched."""
        with alarm(math.inf):
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


class TestTheRun:
    """The deadline holds for all of a run."""

    def test_kernels_that_are_not_ready_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fetching a kernel and making its template count, and the sentence names the deadline."""
        monkeypatch.setattr(kernels, "resolve", lambda spec, progress: threading.Event().wait(60))
        recorder = RunRecorder(deadline=0.2, began=time.monotonic())

        with pytest.raises(KernelError, match=r"the total deadline of 0\.2s passed before any case was judged"):
            kernels.make_ready(recorder, {"host": "host"}, MachineOptions())

    def test_templates_that_are_made_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the deadline ends one thread, the machines of the others are ended, and none is started any more."""
        ended = threading.Event()
        begun: list[str] = []

        def never_ready(pool: object, slug: str, progress: object) -> None:
            begun.append(slug)
            ended.wait(5)

        monkeypatch.setattr(kernels, "kernel_event", never_ready)
        monkeypatch.setattr(kernels, "end_all", ended.set)

        with pytest.raises(DeadlinePassed), alarm(time.monotonic() + 0.2):
            kernels.kernel_events(MachinePool({}, MachineOptions()), ["a", "b", "c"], print)

        assert ended.is_set()
        assert sorted(begun) == ["a", "b"]

    def test_cases_that_were_not_run_say_so(self, tmp_path: Path, pytestconfig: pytest.Config) -> None:
        """Every selected case has its line, with parameters and reason, and the run is not taken for a pass."""
        recorder = RunRecorder(results=tmp_path, deadline=1.0, began=time.monotonic() - 1.0)
        recorder.begin({"host": frozenset("abc")})
        run = Controller.__new__(Controller)
        run.recorder, run._selected, run._config = recorder, NODES, pytestconfig
        monkey = pytest.MonkeyPatch()
        monkey.setattr(controller, "specs_of", lambda config: {"host": "host"})
        recorder.seen.add(NODES[0])

        with monkey.context():
            run._give_up_the_rest()
        monkey.undo()

        assert recorder.run is not None
        cases = recorder.run.cases["host"]
        assert [(case.verdict, case.params["out"]) for case in cases] == [
            (Verdict.INFRA, "udp4"),
            (Verdict.INFRA, "unix_dgram"),
        ]
        assert cases[0].differences == ("not run: the run's total deadline has passed",)
        assert recorder.exit_code() == 125
