# SPDX-License-Identifier: GPL-2.0-only
"""`conform teeth`: put one fault after the other into a kernel, and say which case finds it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import ExitCode
from common.say import note, put
from conformance.report.style import Style
from conformance.teeth import faults
from conformance.teeth.faults import Fault
from conformance.teeth.trial import Bench, Outcome, attempt, baseline, recall, save, unsettled
from kernels.resolve import resolve

_TARGET = 0.95
"""Share of the faults that the suite should find."""


def teeth(options: argparse.Namespace) -> int:
    """Try the faults and return 0 if each is found or has a reason why none can find it."""
    chosen = faults.chosen(options.fault)
    folder = Path(options.results)
    style = Style.of(sys.stdout)
    workers = options.n or os.cpu_count() or 1
    bench = Bench(options.kernel or faults.kernel(), folder, workers, options.stress)
    if not options.list:
        _try(chosen, bench, again=options.again)
    outcomes = {fault.number: recall(folder, fault.number) for fault in chosen}
    put(table(chosen, outcomes, style), sys.stdout)
    unfound = [fault for fault in chosen if not _settled(fault, outcomes[fault.number])]
    return int(ExitCode.UNEXPECTED if unfound and not options.list else ExitCode.OK)


def _try(chosen: Sequence[Fault], bench: Bench, *, again: bool) -> None:
    """Try each fault whose outcome is not known, and keep the outcome at once."""
    outcomes = {fault.number: None if again else recall(bench.folder, fault.number) for fault in chosen}
    left = [fault for fault in chosen if unsettled(fault, bench, outcomes[fault.number])]
    if not left:
        return
    resolve(bench.spec, progress=_note)
    clean = recall(bench.folder, 0)
    if clean is None:
        _note("running every case once on the kernel without a fault")
        clean = baseline(bench)
        save(bench.folder, clean)
    # One stage after the other for all faults: the first takes seconds and finds most, the last takes minutes.
    while left:
        for place, fault in enumerate(left, 1):
            outcome = attempt(fault, bench, frozenset(clean.unexpected), outcomes[fault.number])
            outcomes[fault.number] = outcome
            save(bench.folder, outcome)
            _note(f"stage {outcome.stages}, {place} of {len(left)}: {fault.number} {fault.title}: {_word(outcome)}")
        left = [fault for fault in left if unsettled(fault, bench, outcomes[fault.number])]


def table(chosen: Sequence[Fault], outcomes: dict[int, Outcome | None], style: Style) -> Iterator[str]:
    """Yield a line for each fault, the faults that survived, and the functions that no fault touches."""
    tried = [outcome for outcome in outcomes.values() if outcome is not None]
    killed = [outcome for outcome in tried if outcome.killed_by]
    yield style.paint(f"{len(chosen)} faults, {len(tried)} tried, {len(killed)} found", "strong")
    for fault in chosen:
        outcome = outcomes[fault.number]
        yield ""
        yield from style.wrap(f"{fault.number:3} {fault.title}", then="    ")
        yield from style.wrap(f"{fault.function}, {fault.file}, {fault.kind}", first="    ")
        if outcome is not None:
            yield from style.wrap(f"{_word(outcome)} ({outcome.seconds:.0f} s, {outcome.cases} cases)", first="    ")
        if fault.survives:
            yield from style.wrap(f"no case can find it: {fault.survives}", first="    ")
    survivors = [each for each in chosen if (outcome := outcomes[each.number]) is not None and not outcome.killed_by]
    if survivors:
        numbers = ", ".join(str(fault.number) for fault in survivors)
        yield from ("", *style.wrap(f"Not found: {numbers}"))
    names = ", ".join(name for _, name in faults.untouched())
    yield from ("", *style.wrap(f"No fault touches: {names}"))
    if tried:
        share = len(killed) / len(tried)
        yield from ("", f"{share:.0%} of the faults tried are found; the target is {_TARGET:.0%}.")


def _settled(fault: Fault, outcome: Outcome | None) -> bool:
    return bool(fault.survives or (outcome is not None and outcome.killed_by))


def _word(outcome: Outcome) -> str:
    if outcome.error:
        return f"not judged: {outcome.error}"
    if not outcome.killed_by:
        return "NOT FOUND"
    return f"found by {outcome.killed_by}, {outcome.verdict}: {outcome.said}"


def _note(text: str) -> None:
    note(text)
