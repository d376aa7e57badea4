# SPDX-License-Identifier: GPL-2.0-only
"""A template is healthy, or not warmed up: a warning that fires only once must fire in a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from conformance.groups import GROUPS, cases
from conformance.run.bundle import warm_up
from vm.launch import UnfitError
from vm.machine import CallStatus, LogLine, Machine, Reply

WARNING = LogLine(sequence=9, level=4, microseconds=1, text="WARNING: CPU: 0 PID: 1 at net/core/skmsg.c:7 x+0x1/0x2")


class _Guest:
    """A machine that gives the replies it was given, then healthy ones."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.asked: list[Any] = []

    def call(self, function: str, arguments: Mapping[str, Any], *, deadline: float) -> Reply:
        self.asked += arguments.get("cases", ())
        return self._replies.pop(0) if self._replies else Reply(status=CallStatus.ANSWERED)


def _warm_up(*replies: Reply) -> list[Any]:
    guest = _Guest(*replies)
    warm_up(cast("Machine", guest))
    return guest.asked


def test_a_healthy_guest_is_fit() -> None:
    """A guest that answered and logged nothing may be cloned."""
    _warm_up()


def test_each_case_named_for_it_is_carried_out() -> None:
    """A name that is not a case would leave something cold, and nobody would see it."""
    named = {f"{group.name}/{name}" for group in GROUPS.values() for name in group.warm_up}
    every = {case.id: [case.scenario, dict(case.params)] for case in cases()}

    assert len(named) > 30
    assert sorted(named - every.keys()) == []
    assert sorted(map(str, map(list, _warm_up()))) == sorted(str(every[name]) for name in named)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=CallStatus.ANSWERED, log=(WARNING,)),
        Reply(status=CallStatus.ANSWERED, taint=1 << 9),
        Reply(status=CallStatus.ANSWERED, log_complete=False),
        Reply(status=CallStatus.RAISED, error="Traceback\nOSError: x"),
        Reply(status=CallStatus.PANICKED, error="Kernel panic - not syncing: x", log_complete=False),
    ],
)
def test_a_guest_in_trouble_is_unfit(reply: Reply) -> None:
    """Everything that would fail a case makes the guest unfit, also a late log line."""
    with pytest.raises(UnfitError):
        _warm_up(reply)
    if reply.status is CallStatus.ANSWERED:
        with pytest.raises(UnfitError):
            _warm_up(Reply(status=CallStatus.ANSWERED), reply)
