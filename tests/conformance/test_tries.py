# SPDX-License-Identifier: GPL-2.0-only
"""An unexpected case is tried again in a fresh clone, both tries are recorded, and the first verdict stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from common.errors import ConformError
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.events import decode, encode
from conformance.report.text import report_lines
from conformance.run.retries import Repetition
from conformance.run.try_case import examine
from tests.conformance.pools import CASE, GOOD, PANICKED, SLUG, STRAY, WARNED, ScriptedPool
from tests.conformance.report_runs import KERNEL_6_12, finished
from vm.machine import CallStatus, Reply

DEFAULT = Repetition()
LOST = Reply(status=CallStatus.LOST, error="the guest does not answer", log_complete=False)


def _examined(*answers: Any, how: Repetition = DEFAULT) -> tuple[ScriptedPool, dict[str, Any]]:
    pool = ScriptedPool(*answers)
    _, record = examine(pool, SLUG, CASE, how=how)
    assert not pool.answers, "some answers were never asked for"
    return pool, record


def _verdicts(record: dict[str, Any]) -> list[tuple[str, bool, int]]:
    return [(each["verdict"], each["fresh"], each["times"]) for each in record["tries"]]


class TestTries:
    """Retries of an unexpected verdict."""

    def test_what_is_expected_is_tried_once(self) -> None:
        """A case that passes costs one try and no clone."""
        pool, record = _examined(GOOD)

        assert pool.history == ["ask"]
        assert (record["verdict"], record["tries"], record["flaky"]) == ("pass", [], False)

    def test_a_failure_that_repeats_is_no_flake(self) -> None:
        """The second try is in a fresh clone, and both are recorded."""
        pool, record = _examined(STRAY, STRAY)

        assert pool.history == ["ask", "close", "ask"]
        assert _verdicts(record) == [("fail", False, 1), ("fail", True, 1)]
        assert record["verdict"] == "fail"
        assert not record["flaky"]
        assert record["tries"][0]["differences"] == record["differences"]

    def test_a_try_that_the_host_broke_is_repeated(self) -> None:
        """A machine that the host killed, stopped or starved says nothing about its kernel; the next one does."""
        starved = replace(LOST, host_fault="this host let it not run")
        pool, record = _examined(starved, GOOD)

        assert pool.history == ["ask", "close", "ask"]
        assert (record["verdict"], record["flaky"], record["host"]) == ("pass", False, False)

    def test_a_host_that_breaks_every_try_is_blamed(self) -> None:
        """If every try is broken, the case is `infra`, whatever happened to its machine."""
        starved = replace(LOST, host_fault="this host let it not run")
        _, record = _examined(starved, starved, starved)

        assert (record["verdict"], record["differences"]) == ("infra", ["this host let it not run"])
        assert record["host"]

    @pytest.mark.parametrize("first", [STRAY, WARNED, PANICKED])
    def test_a_flaky_case_keeps_its_first_verdict(self, first: Any) -> None:
        """A case that passes the second time is flaky, and not a pass."""
        _, record = _examined(first, GOOD)

        assert record["flaky"]
        assert not Verdict(record["verdict"]).expected
        assert [each["verdict"] for each in record["tries"]] == [record["verdict"], "pass"]

    def test_each_try_has_its_own_log(self) -> None:
        """Each try has its own kernel log."""
        _, record = _examined(STRAY, WARNED)

        assert (record["verdict"], record["log"]) == ("fail", [])
        assert "skmsg.c" in record["tries"][1]["log"][0]["text"]

    def test_tries_end_once_one_disagrees(self) -> None:
        """More tries are made only while all agree."""
        _, record = _examined(STRAY, STRAY, GOOD, how=Repetition(tries=5))
        assert [each["verdict"] for each in record["tries"]] == ["fail", "fail", "pass"]

        _, record = _examined(*[STRAY] * 5, how=Repetition(tries=5))
        assert len(record["tries"]) == 5

    def test_one_try_is_enough_if_asked_for(self) -> None:
        """With --tries 1 no case is tried again."""
        pool, record = _examined(STRAY, how=Repetition(tries=1))

        assert (pool.history, record["verdict"], record["tries"]) == (["ask"], "fail", [])

    def test_a_machine_that_cannot_be_had_is_no_try(self) -> None:
        """A second try that the harness could not make does not count."""
        _, record = _examined(STRAY, ConformError("the run's total deadline has passed"))
        assert (record["verdict"], record["tries"], record["flaky"]) == ("fail", [], False)

        _, record = _examined(ConformError("no machine"))
        assert (record["verdict"], record["tries"]) == ("infra", [])


class TestRepetition:
    """--repeat: every case is tried several times."""

    def test_the_worst_verdict_stands(self) -> None:
        """One stray message in six tries fails the case, and all tries are counted."""
        _, record = _examined(GOOD, GOOD, GOOD, STRAY, GOOD, GOOD, how=Repetition(repeat=6, tries=1))

        assert _verdicts(record) == [("pass", False, 3), ("fail", False, 1), ("pass", False, 2)]
        assert (record["verdict"], record["flaky"]) == ("fail", True)
        assert record["tries"][0]["seconds"] == pytest.approx(3 * GOOD.seconds)

    def test_a_panic_outranks_a_failure(self) -> None:
        """The worst verdict stands, whichever came first."""
        _, record = _examined(STRAY, PANICKED, STRAY, how=Repetition(repeat=3, tries=1))

        assert record["verdict"] == "panic"

    def test_passes_alone_are_no_flake(self) -> None:
        """Repetitions that agree are one entry."""
        _, record = _examined(*[GOOD] * 9, how=Repetition(repeat=9))

        assert _verdicts(record) == [("pass", False, 9)]
        assert (record["verdict"], record["flaky"]) == ("pass", False)

    def test_until_it_fails(self) -> None:
        """The first unexpected verdict ends the repetitions, and is tried again."""
        how = Repetition(repeat=float("inf"), until_fail=True)
        _, record = _examined(*[GOOD] * 200, WARNED, WARNED, how=how)

        assert _verdicts(record) == [("pass", False, 200), ("splat", False, 1), ("splat", True, 1)]

    def test_until_its_time_is_up(self) -> None:
        """A case that never fails is tried at least once, and until its time is up."""
        _, record = _examined(GOOD, how=Repetition(repeat=float("inf"), until_fail=True, seconds=0.0))

        assert record["verdict"] == "pass"

    def test_isolation(self) -> None:
        """With --isolation case each try gets a fresh clone."""
        pool, record = _examined(GOOD, GOOD, how=Repetition(repeat=2, isolated=True))

        assert pool.history == ["close", "ask", "close", "ask"]
        assert _verdicts(record) == [("pass", True, 2)]


def test_flaky_cases_are_reported() -> None:
    """The event log keeps the tries, and the report lists a flaky case with the result of each."""
    _, record = _examined(GOOD, GOOD, STRAY, GOOD, how=Repetition(repeat=3))
    event = CaseEvent(**{**record, "verdict": Verdict(record["verdict"]), "differences": (), "log": (),
                         "tries": tuple(record["tries"])})  # fmt: skip
    again = decode(encode(event))
    assert isinstance(again, CaseEvent)

    text = " ".join("\n".join(report_lines(finished((KERNEL_6_12, [again]), code=1))).split())

    assert "Flaky: 1" in text
    assert f"{CASE.id} on debian:6.12" in text
    assert "pass (delivered) 2 times, then fail (" in text
    assert "then pass (delivered) in a fresh clone" in text
