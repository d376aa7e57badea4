# SPDX-License-Identifier: GPL-2.0-only
"""`conform compare`: judge two kernels, repeat the cases that differ, and classify them."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common import foreign
from common.errors import DeadlinePassed, ExitCode, UsageError
from common.say import add, hush, note
from common.words import counted
from conformance.compare.again import CLONES, Repeater, Tries
from conformance.compare.classify import classify
from conformance.compare.identity import unlike
from conformance.compare.model import Change, Comparison, Difference, Side
from conformance.compare.sides import Subject, is_folder, judged_before, judged_now, options_for, pairs, require_common
from conformance.compare.store import store
from conformance.compare.text import brief_lines, comparison_lines, paragraph
from conformance.compare.try_result import try_result
from conformance.groups import cases
from conformance.model import Case
from conformance.report.event_types import CaseEvent
from conformance.report.live import choose
from conformance.report.style import Style
from conformance.report.text import verdict_lines
from conformance.run.consent import for_host
from conformance.run.deadline import alarm, expiry, process_began, too_late
from conformance.run.machine_pool import MachinePool
from conformance.run.options import chosen_of, specs_asked, workers
from conformance.run.results import Claim, new_folder
from conformance.run.run_options import RunOptions, read_options
from conformance.run.selection import checked, matcher
from kernels.kernel import Kernel
from kernels.resolve import resolve

_SETTLED = (Change.SAME, Change.STILL_FAILING, Change.APPEARED, Change.VANISHED)
"""Changes that another try cannot alter."""


def compare(options: argparse.Namespace) -> int:
    """Compare two kernels and return the exit code: 1 if head has regressed, 125 or 128 if that is unknown."""
    asked = _read(options)
    for_host([each for run in asked.runs.values() for each in specs_asked(run)], yes=options.yes)
    with _results(asked) as folder:
        sides = _sides(asked, folder)
        found = [_compare(base, head, asked) for base, head in pairs(*sides)]
        style = Style.of(sys.stdout)
        if folder is not None:
            store(found, folder)
        for comparison in found:
            lines = (brief_lines if asked.verbosity < 0 else comparison_lines)(comparison, style)
            add([*lines, "", *paragraph(comparison)], sys.stdout)
        if folder is not None:
            add(["", foreign.line(f"results: {shlex.quote(os.fspath(folder))}")], sys.stdout)
    return int(exit_code_of([each for comparison in found for each in comparison.differences]))


def exit_code_of(differences: Sequence[Difference]) -> ExitCode:
    """Return the exit code for all differences; where the host kept a case from an answer, a bisection must stop."""
    if any(each.change is Change.REGRESSION for each in differences):
        return ExitCode.UNEXPECTED
    lost = [each for each in differences if each.change is Change.NOT_JUDGED]
    if any(side.spoilt for each in lost for side in (each.base, each.head)):
        return ExitCode.BROKEN
    return ExitCode.CANNOT_JUDGE if lost else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of `compare`, read once."""

    sides: Mapping[str, str]
    """`base` and `head` to a spec or a folder of results."""
    runs: Mapping[str, argparse.Namespace]
    """The options of the runs, for the sides that are judged now."""
    run: RunOptions
    """The options that both runs share; its list of kernels is not used."""
    again: int
    strict: bool
    workers: int
    verbosity: int
    """-1 with -q, 1 with -v, else 0."""

    @property
    def progress(self) -> Callable[[str], None]:
        """Where to say what takes time."""
        return note if self.verbosity >= 0 else hush


def _read(options: argparse.Namespace) -> _Asked:
    """Read the command line; UsageError names the first option that is wrong."""
    of_no_kernel = dict.fromkeys(("conform_kernel", "conform_patch", "conform_config", "conform_preset"))
    run = read_options(argparse.Namespace(**{**vars(options), **of_no_kernel}))
    checked(replace(run.wanted, stressed=True), cases())
    if options.again < 0:
        raise UsageError(f"--again {options.again} is too few", hint="--again 0 repeats nothing")
    sides = {"base": options.base, "head": options.head}
    return _Asked(sides, _runs(options), run, options.again, options.strict, workers(options), options.verbosity)


def _runs(options: argparse.Namespace) -> dict[str, argparse.Namespace]:
    """Return the options for running each side that is not a results folder; UsageError if one cannot be judged."""
    asked = {"base": options.base, "head": options.head}
    runs = {name: _run(text, name, options) for name, text in asked.items() if not is_folder(text)}
    if (options.conform_patch or options.conform_config) and "head" not in runs:
        raise UsageError(f"HEAD is the folder {options.head}, so there is nothing to patch", hint="give a kernel")
    return runs


def _run(text: str, name: str, options: argparse.Namespace) -> argparse.Namespace:
    """Return the options for judging one side; the hint about a text that is no kernel speaks of folders, too."""
    try:
        return options_for(text, name, options)
    except UsageError as error:
        if ":" in text or os.path.lexists(text):
            raise
        raise UsageError(f"there is neither a kernel nor a results folder {text!r}", hint=error.hint) from error


@contextlib.contextmanager
def _results(asked: _Asked) -> Iterator[Path | None]:
    """Claim the results folder named, or make a new one; without a name and without a kernel to judge there is none."""
    if asked.run.results is not None:
        with Claim(asked.run.results) as claim:
            yield claim.path
    elif asked.runs:
        with new_folder("-compare") as path:
            yield path
    else:
        yield None


def _sides(asked: _Asked, folder: Path | None) -> tuple[list[Subject], list[Subject]]:
    gathered = []
    _prepare(asked)
    for name, text in asked.sides.items():
        if name in asked.runs:
            results = folder / name if folder is not None else None
            conclude = verdict_lines if asked.verbosity >= 0 else (lambda *_: ())
            reporter = choose(sys.stderr, conclude, asked.verbosity)
            gathered.append(judged_now(text, asked.runs[name], results, reporter))
        else:
            gathered.append(judged_before(text, asked.progress, note))
    return gathered[0], gathered[1]


def _prepare(asked: _Asked) -> None:
    """Fetch or build both kernels before one is judged: to judge base takes minutes, and head may not build.

    Head comes first: if one of them fails, it is the patched one.
    """
    if len(asked.runs) < len(asked.sides):
        return
    for run in asked.runs.values():
        chosen_of(run)  # raises UsageError where no case is
    try:
        with alarm(expiry(asked.run.deadline, process_began())):
            for name in ("head", "base"):
                for spec in specs_asked(asked.runs[name]):
                    resolve(spec, progress=asked.progress)
    except DeadlinePassed:
        raise too_late(asked.run.deadline) from None


def _compare(base: Subject, head: Subject, asked: _Asked) -> Comparison:
    old, new = (_named(side.cases, asked.run.wanted.globs) for side in (base, head))
    require_common(base, head, old, new)
    once = differences(old, new, {}, strict=asked.strict)
    doubtful = {each.id for each in once if each.change not in _SETTLED}
    again = [case for case in cases() if case.id in doubtful]
    kernels = {name: side.kernel for name, side in (("base", base), ("head", head)) if side.kernel is not None}
    possible = bool(asked.again and again and len(kernels) == len(("base", "head")))
    tries = _repeat(kernels, again, asked) if possible else {}
    notes = []
    if base.suite != head.suite:
        notes.append(f"{base.suite} judged base, {head.suite} judged head: a difference may come from the suite.")
    if again and asked.again and not possible:
        notes.append("No case was repeated, because the kernels are not available: a difference may be unstable.")
    return Comparison(
        base=base.event,
        head=head.event,
        differences=differences(old, new, tries, strict=asked.strict),
        unlike=unlike(base.event, head.event, (base.kernel, head.kernel)),
        suites=(base.suite, head.suite),
        tries=asked.again if possible else 0,
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
                first=try_result(events[name]) if name in events else None,
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


def _repeat(kernels: Mapping[str, Kernel], again: list[Case], asked: _Asked) -> Tries:
    pool = MachinePool(kernels, asked.run.machine)
    for side in kernels:
        pool.prepare(side, asked.progress)
    count = counted(len(again), "differing case")
    asked.progress(f"repeating {count} {counted(asked.again, 'time')} on each kernel")
    expires = expiry(asked.run.deadline, process_began())
    repeater = Repeater(kernels, asked.run.machine, asked.run.lists, asked.workers, expires)
    return repeater.tries(again, asked.again, _tenths(asked.progress))


def _tenths(progress: Callable[[str], None]) -> Callable[[int, int], None]:
    tenth = 0

    def done(count: int, total: int) -> None:
        nonlocal tenth
        if count * 10 // total > tenth:
            tenth = count * 10 // total
            progress(f"{count}/{total} reruns done")

    return done
