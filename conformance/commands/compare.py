# SPDX-License-Identifier: GPL-2.0-only
"""`conform compare`: judge two kernels, repeat what differs, say what has become of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from common import foreign
from common.errors import ExitCode
from common.errors import UsageError
from common.say import note
from common.say import put
from conformance.compare.again import CLONES
from conformance.compare.again import Repeater
from conformance.compare.again import Tries
from conformance.compare.classify import classify
from conformance.compare.identity import unlike
from conformance.compare.model import Change
from conformance.compare.model import Comparison
from conformance.compare.model import Difference
from conformance.compare.model import Side
from conformance.compare.sides import Subject
from conformance.compare.sides import is_folder
from conformance.compare.sides import judged_before
from conformance.compare.sides import judged_now
from conformance.compare.sides import options_for
from conformance.compare.sides import pairs
from conformance.compare.sides import require_common
from conformance.compare.store import store
from conformance.compare.symptom import symptom_of
from conformance.compare.text import comparison_lines
from conformance.compare.text import paragraph
from conformance.groups import cases
from conformance.model import Case
from conformance.report.events import CaseEvent
from conformance.report.live import choose
from conformance.report.style import Style
from conformance.report.text import verdict_lines
from conformance.run.consent import for_host
from conformance.run.deadline import expiry
from conformance.run.deadline import process_began
from conformance.run.deadline import seconds_of
from conformance.run.machine_pool import PRELOAD
from conformance.run.machine_pool import Workbench
from conformance.run.options import lists_of
from conformance.run.options import machine_options
from conformance.run.options import specs_asked
from conformance.run.options import workers
from conformance.run.results import Claim
from conformance.run.results import new_folder
from conformance.run.selection import Wanted
from conformance.run.selection import checked
from conformance.run.selection import matcher
from kernels.kernel import Kernel

_SETTLED = (Change.SAME, Change.STILL_FAILING, Change.APPEARED, Change.VANISHED)
"""What another try does not change."""


def compare(options: argparse.Namespace) -> int:
    """Compare two kernels and return the exit code: 1 if head has regressed, 125 if that could not be told."""
    lists_of(options)
    checked(Wanted(tuple(options.conform_case or ()), stressed=True), cases())
    if options.again < 0:
        raise UsageError(f"--again {options.again} is too few", hint="--again 0 repeats nothing")
    runs = _runs(options)
    for_host([each for run in runs.values() for each in specs_asked(run)], yes=options.yes)
    with _results(options, judges=bool(runs)) as folder:
        sides = _sides(options, runs, folder)
        found = [_compare(base, head, options) for base, head in pairs(*sides)]
        style = Style.of(sys.stdout)
        for comparison in found:
            put([*comparison_lines(comparison, style), "", *paragraph(comparison)], sys.stdout)
        if folder is not None:
            store(found, folder)
            put(["", foreign.line(f"results: {shlex.quote(os.fspath(folder))}")], sys.stdout)
    changes = {each.change for comparison in found for each in comparison.differences}
    if Change.REGRESSION in changes:
        return int(ExitCode.UNEXPECTED)
    return int(ExitCode.CANNOT_JUDGE if Change.NOT_JUDGED in changes else ExitCode.OK)


def _runs(options: argparse.Namespace) -> dict[str, argparse.Namespace]:
    """Return the options of the run over each side that is no folder of results; UsageError where there can be none."""
    asked = {"base": options.base, "head": options.head}
    runs = {name: options_for(text, name, options) for name, text in asked.items() if not is_folder(text)}
    if (options.conform_patch or options.conform_config) and "head" not in runs:
        raise UsageError(f"HEAD is the folder {options.head}, so there is nothing to patch", hint="give a kernel")
    return runs


@contextlib.contextmanager
def _results(options: argparse.Namespace, *, judges: bool) -> Iterator[Path | None]:
    """Claim the results folder named, or make a new one; without a name there is none where no kernel is judged."""
    if options.conform_results:
        with Claim(Path(options.conform_results)) as claim:
            yield claim.path
    elif judges:
        with new_folder("-compare") as path:
            yield path
    else:
        yield None


def _sides(
    options: argparse.Namespace, runs: Mapping[str, argparse.Namespace], folder: Path | None
) -> tuple[list[Subject], list[Subject]]:
    gathered = []
    for name, text in (("base", options.base), ("head", options.head)):
        if name in runs:
            results = folder / name if folder is not None else None
            gathered.append(judged_now(text, runs[name], results, choose(sys.stderr, verdict_lines)))
        else:
            gathered.append(judged_before(text, note))
    return gathered[0], gathered[1]


def _compare(base: Subject, head: Subject, options: argparse.Namespace) -> Comparison:
    old, new = (_named(side.cases, options.conform_case or ()) for side in (base, head))
    require_common(base, head, old, new)
    once = differences(old, new, {}, strict=options.strict)
    doubtful = {each.id for each in once if each.change not in _SETTLED}
    again = [case for case in cases() if case.id in doubtful]
    kernels = {name: side.kernel for name, side in (("base", base), ("head", head)) if side.kernel is not None}
    possible = bool(options.again and again and len(kernels) == len(("base", "head")))
    tries = _repeat(kernels, again, options) if possible else {}
    notes = []
    if base.suite != head.suite:
        notes.append(f"{base.suite} judged base, {head.suite} judged head: a difference may come from the suite.")
    if again and options.again and not possible:
        notes.append("Nothing was repeated, because not both kernels are at hand: what differs may be unstable.")
    return Comparison(
        base=base.event,
        head=head.event,
        differences=differences(old, new, tries, strict=options.strict),
        unlike=unlike(base.event, head.event, (base.kernel, head.kernel)),
        suites=(base.suite, head.suite),
        tries=options.again if possible else 0,
        alone=len(again) <= CLONES,
        notes=tuple(notes),
    )


def _named(events: Mapping[str, CaseEvent], globs: Sequence[str]) -> dict[str, CaseEvent]:
    """Return the cases that --case names: a folder of results may hold more of them."""
    names = matcher(globs, events)
    return {name: event for name, event in events.items() if names(name)}


def differences(
    base: Mapping[str, CaseEvent], head: Mapping[str, CaseEvent], tries: Tries, *, strict: bool = False
) -> tuple[Difference, ...]:
    """Classify every case of either side, in base's order."""
    found = []
    for name in dict.fromkeys((*base, *head)):
        sides = {
            side: Side(
                first=symptom_of(events[name]) if name in events else None,
                tries=tries.get((side, name), ()),
                repeat=events[name].repeat if name in events else "",
                flaky=name in events and events[name].flaky,
            )
            for side, events in (("base", base), ("head", head))
        }
        params = (base.get(name) or head[name]).params
        change = classify(sides["base"], sides["head"], strict=strict)
        found.append(Difference(name, params, change, sides["base"], sides["head"]))
    return tuple(found)


def _repeat(kernels: Mapping[str, Kernel], again: list[Case], options: argparse.Namespace) -> Tries:
    machines = machine_options(options, PRELOAD)
    workbench = Workbench(kernels, machines)
    for side in kernels:
        workbench.prepare(side, note)
    count = f"{len(again)} differing case{'s' * (len(again) != 1)}"
    note(f"repeating {count} {options.again} time{'s' * (options.again != 1)} on each kernel")
    expires = expiry(seconds_of(options.conform_total_deadline), process_began())
    repeater = Repeater(kernels, machines, lists_of(options), workers(options), expires)
    return repeater.tries(again, options.again, _tenths())


def _tenths() -> Callable[[int, int], None]:
    told = 0

    def done(count: int, total: int) -> None:
        nonlocal told
        if count * 10 // total > told:
            told = count * 10 // total
            note(f"{count}/{total} reruns done")

    return done
