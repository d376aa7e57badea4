# SPDX-License-Identifier: GPL-2.0-only
"""Measure the cost of cases, and of the guest's functions.

Use it as `python -m conformance.commands.profile --group leaks`; docs/measuring.md says more.

The first table has the processor time that QEMU takes for a case of each group. On a busy host it says more than
seconds by the clock, but even so the same code can differ twofold. With `--inside` another table says in which
functions of the guest the time goes (`conformance/run/stopwatch.py`); that one needs a quiet host.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from common.say import note, say
from conformance.groups import GROUPS
from conformance.model import Case
from conformance.run import stopwatch
from conformance.run.bundle import guest_bundle
from conformance.run.machine_pool import PRELOAD, MachinePool
from conformance.run.memory import family
from conformance.run.try_case import once
from kernels.resolve import resolve
from vm.machine import CallStatus, MachineOptions

_SLUG = "kernel"
_DEADLINE = 60.0
_PASSES = 3
"""Measurements of each sample, the first on a cold machine; the smallest is printed."""


def main() -> int:
    """Profile the groups that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.commands.profile", description="Measure what cases cost."
    )
    parser.add_argument("--kernel", default="debian:6.12", metavar="SPEC")
    parser.add_argument("--group", action="append", choices=sorted(GROUPS), help="default: all but those of --stress")
    parser.add_argument("--every", type=int, default=20, metavar="N", help="take every N-th case (default: 20)")
    parser.add_argument("--inside", action="store_true", help="also list the functions of the guest that take the time")
    parser.add_argument("--lines", type=int, default=24, metavar="N", help="functions to name (default: 24)")
    options = parser.parse_args()
    with closing(MachinePool({_SLUG: resolve(options.kernel)}, MachineOptions(preload=PRELOAD))) as pool:
        pool.prepare(_SLUG, note)
        for group in options.group or [name for name, each in GROUPS.items() if not each.stress]:
            cases = GROUPS[group].cases()
            sample = cases[:: options.every]
            seconds = min(_cost(pool, sample) for _ in range(_PASSES)) / len(sample)
            say(f"{group:16} {len(cases):5} cases, {1000 * seconds:7.1f} ms each, {seconds * len(cases):6.1f} s")
            if options.inside:
                _print(list(filter(None, [_looked_into(pool, case) for case in sample])), options.lines)
                pool.close()
    return 0


def _cost(pool: MachinePool, cases: Sequence[Case]) -> float:
    """Return the processor time, in seconds, that the machine needs for some cases."""
    pool.machine(_SLUG)
    begin = _used()
    for case in cases:
        judgement = once(pool, _SLUG, case).judgement
        if not judgement.verdict.expected:
            note(f"{case.id}: {judgement.verdict}, so do not trust its numbers")
    return _used() - begin


def _used() -> float:
    """Return the processor time of all descendants, in seconds."""
    paths = [path for pid in list(family(os.getpid()))[1:] for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9


def _looked_into(pool: MachinePool, case: Case) -> Mapping[str, Any] | None:
    """Return the stopwatch's answer about a case; None if the case does not end."""
    machine = pool.machine(_SLUG)
    machine.load({**guest_bundle(), "stopwatch": Path(stopwatch.__file__).read_text()})
    arguments = {"scenario": case.scenario, "params": dict(case.params)}
    reply = machine.call("stopwatch:run", arguments, deadline=_DEADLINE)
    if reply.status is CallStatus.ANSWERED and machine.usable:
        return dict(reply.value)
    note(f"{case.id}: {reply.status} {reply.error}")
    pool.close()
    return None


def _print(cases: Sequence[Mapping[str, Any]], lines: int) -> None:
    """Print the mean of the stopwatch's answers, the most expensive functions first."""
    count = len(cases) or 1
    total, user, system = (1000 * sum(case[name] for case in cases) / count for name in ("total", "user", "system"))
    spent: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for case in cases:
        for name, (calls, seconds) in case["spent"].items():
            spent[name][0] += calls / count
            spent[name][1] += 1000 * seconds / count
    inside = sum(milliseconds for _, milliseconds in spent.values())
    say(f"  {total:8.2f} ms in the guest, {user:.1f} ms of them user and {system:.1f} ms system time")
    say(f"  {total - inside:8.2f} ms           Python")
    for name, (calls, milliseconds) in sorted(spent.items(), key=lambda item: -item[1][1])[:lines]:
        say(f"  {milliseconds:8.2f} ms {calls:8.1f}  {name}")


if __name__ == "__main__":
    sys.exit(main())
