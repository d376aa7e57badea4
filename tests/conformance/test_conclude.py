# SPDX-License-Identifier: GPL-2.0-only
"""What happened to the machine outranks what the scenario saw."""

from __future__ import annotations

import pytest

from conformance.catalogue import redirect_cases
from conformance.conclude import conclude
from conformance.model import KernelFacts
from conformance.model import Verdict
from kernels.version import Version
from vm.machine import Fate
from vm.machine import LogLine
from vm.machine import Reply

CASE = redirect_cases()[0]
FACTS = KernelFacts(version=Version(6, 12, 107), config={})
WARNING = LogLine(sequence=9, level=4, microseconds=1, text="WARNING: CPU: 0 PID: 1 at net/core/skmsg.c:7 x+0x1/0x2")


@pytest.mark.parametrize(
    ("fate", "verdict"),
    [
        (Fate.PANICKED, Verdict.PANIC),
        (Fate.OVERRAN, Verdict.HANG),
        (Fate.LOST, Verdict.LOST),
        (Fate.RAISED, Verdict.INFRA),
    ],
)
def test_the_fate_of_the_machine_is_the_verdict(fate: Fate, verdict: Verdict) -> None:
    """A request that was not answered has its own verdict, whatever the log says."""
    assert conclude(CASE, FACTS, Reply(fate=fate, log=(WARNING,))).verdict is verdict


def test_a_panic_is_titled_from_the_console() -> None:
    """The last witness of a panic names it."""
    reply = Reply(fate=Fate.PANICKED, console="x\n[    5.1] Kernel panic - not syncing: sysrq triggered crash\n")

    assert "Kernel panic - not syncing: sysrq triggered crash" in conclude(CASE, FACTS, reply).differences[0]


def test_a_warning_in_the_window_is_a_splat() -> None:
    """A kernel that warned did not pass, even if every byte arrived."""
    judgement = conclude(CASE, FACTS, Reply(fate=Fate.ANSWERED, value={}, log=(WARNING,)))

    assert judgement.verdict is Verdict.SPLAT
    assert "net/core/skmsg.c" in judgement.differences[0]


def test_a_new_taint_is_a_splat() -> None:
    """A taint bit that appears during a case counts although no line was recognised."""
    assert conclude(CASE, FACTS, Reply(fate=Fate.ANSWERED, value={}, taint=512)).verdict is Verdict.SPLAT


def test_an_unread_log_is_never_a_pass() -> None:
    """Without the whole log there is no knowing: infra."""
    reply = Reply(fate=Fate.ANSWERED, value={}, log_complete=False)

    assert conclude(CASE, FACTS, reply).verdict is Verdict.INFRA


def test_an_answer_of_the_wrong_shape_is_infra() -> None:
    """An observation the judge cannot read blames the harness, not the kernel."""
    assert conclude(CASE, FACTS, Reply(fate=Fate.ANSWERED, value=[1, 2])).verdict is Verdict.INFRA
