# SPDX-License-Identifier: GPL-2.0-only
"""From a machine's reply to a verdict: what happened to the machine first, what the scenario saw second."""

from __future__ import annotations

from conformance.expect.judge import judge
from conformance.klog import find_splat
from conformance.model import Case
from conformance.model import Judgement
from conformance.model import KernelFacts
from conformance.model import Verdict
from vm.machine import Fate
from vm.machine import Reply

_FATES = {
    Fate.PANICKED: (Verdict.PANIC, "the kernel died"),
    Fate.OVERRAN: (Verdict.HANG, "the case did not end by its deadline"),
    Fate.LOST: (Verdict.LOST, "the machine vanished without a panic"),
    Fate.RAISED: (Verdict.INFRA, "the scenario raised"),
}


def conclude(case: Case, facts: KernelFacts, reply: Reply) -> Judgement:
    """Judge one reply; never raises.

    A machine in trouble outranks what the scenario saw, and nothing passes on a log that nobody read.
    """
    if reply.fate in _FATES:
        verdict, sentence = _FATES[reply.fate]
        title = find_splat(line.text for line in reply.log) or find_splat(reply.console.splitlines())
        detail = title or (reply.error.strip().splitlines() or [""])[-1]
        return _troubled(verdict, f"{sentence}: {detail}" if detail else sentence)
    if not reply.log_complete:
        return _troubled(Verdict.INFRA, "the kernel log of this case could not be read in full")
    title = find_splat(line.text for line in reply.log)
    if title:
        return _troubled(Verdict.SPLAT, f"the kernel logged: {title}")
    if reply.taint:
        return _troubled(Verdict.SPLAT, f"the kernel became tainted: bits {reply.taint:#x}")
    return judge(case, facts, reply.value)


def _troubled(verdict: Verdict, sentence: str) -> Judgement:
    return Judgement(
        verdict=verdict,
        expected="a healthy kernel",
        observed=str(verdict),
        reason="every case leaves the kernel healthy",
        differences=(sentence,),
    )
