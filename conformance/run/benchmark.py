# SPDX-License-Identifier: GPL-2.0-only
"""What `conform benchmark` measures inside one process: the cost of watching a kernel, and of losing one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import cast

from conformance.groups.redirect.cases import redirect_cases
from conformance.judge.conclude import conclude
from conformance.judge.judge import judge
from conformance.model import Case, KernelFacts, Verdict
from conformance.run.bundle import guest_bundle
from conformance.run.machine_pool import PRELOAD, MachinePool
from conformance.run.retries import Repetition
from conformance.run.try_case import examine
from kernels.resolve import resolve
from vm.machine import MachineOptions
from vm.session import Session

_SPEC = "debian:6.12"
_SLUG = "debian-6.12"
_WATCHED = 7
"""Of so many cases one is asked to learn what watching costs."""

_CRASH = "def panic(arguments):\n    open('/proc/sysrq-trigger', 'w').write('c')\n"

_TURNS = 9
"""So often each way."""


def watching() -> tuple[float, float]:
    """Return what a case takes with somebody watching its kernel, and without, in seconds.

    Both in one run, on one machine: each case is put to it both ways, in turns, from request to verdict.
    """
    cases = [case for case in redirect_cases() if case.params["layout"] == "plain"][::_WATCHED]
    kernel = resolve(_SPEC)
    facts = KernelFacts(kernel.version, kernel.config)
    with closing(MachinePool({_SLUG: kernel}, MachineOptions(preload=PRELOAD))) as pool:
        pool.prepare(_SLUG, lambda text: None)
        machine = cast("Session", pool.machine(_SLUG))

        def watched(case: Case) -> None:
            reply = pool.ask(_SLUG, case)
            assert conclude(case, facts, reply).verdict.expected

        def unwatched(case: Case) -> None:
            reply = machine.call(case.scenario, case.params, deadline=case.deadline, watch=False)
            assert judge(case, facts, reply.value).verdict.expected

        for case in cases:
            watched(case)
        pairs = [_in_turns(case, watched, unwatched) for case in cases]
    return statistics.mean(pair[0] for pair in pairs), statistics.mean(pair[1] for pair in pairs)


def _in_turns(case: Case, *ways: Callable[[Case], None]) -> tuple[float, ...]:
    """Return the median of the seconds that a case takes each way."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(_TURNS):
        for number in range(len(ways))[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            ways[number](case)
            seconds[number].append(time.perf_counter() - begin)
    return tuple(map(statistics.median, seconds))


def overhead(watched: float, unwatched: float) -> str:
    """Say what watching the kernel's health costs."""
    return (
        f"a case takes {1000 * watched:.2f} ms with its window of the kernel log, taint and scan, and"
        f" {1000 * unwatched:.2f} ms without: {watched / unwatched - 1:.1%} more"
    )


def recovered() -> tuple[float, float]:
    """Have a kernel panic; return the seconds from the request to do so until another answers, and the next case."""
    case, *_ = redirect_cases()
    crash = Case(case.group, "panic", "crash:panic", case.params)
    with closing(MachinePool({_SLUG: resolve(_SPEC)}, MachineOptions(preload=PRELOAD))) as pool:
        pool.prepare(_SLUG, lambda text: None)
        pool.machine(_SLUG).load({**guest_bundle(), "crash": _CRASH})
        begin = time.perf_counter()
        died, _ = examine(pool, _SLUG, crash, how=Repetition(tries=1))
        pool.machine(_SLUG)
        replaced = time.perf_counter() - begin
        judged, _ = examine(pool, _SLUG, case)
    assert (died.verdict, judged.verdict) == (Verdict.PANIC, Verdict.PASS)
    return replaced, time.perf_counter() - begin


def recovery(runs: Sequence[tuple[float, float]]) -> str:
    """Say how long a panic holds up a worker."""
    replaced, judged = (sorted(seconds) for seconds in zip(*runs, strict=True))
    return (
        f"from a case that panics the kernel to another kernel that answers: {statistics.median(replaced):.2f} s,"
        f" at most {replaced[-1]:.2f} s; to the next case's verdict: {statistics.median(judged):.2f} s,"
        f" at most {judged[-1]:.2f} s"
    )
