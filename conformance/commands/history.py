# SPDX-License-Identifier: GPL-2.0-only
"""`conform history`: each case's verdicts over all runs in a folder; cases with most flips first."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from common.errors import ExitCode, UsageError, print_error
from common.say import put, say
from common.words import counted
from conformance.nightly.history import LEGEND, Build, CaseHistory, histories
from conformance.report.events import NAME
from conformance.report.findings import lacks
from conformance.report.stored_runs import StoredRun, stored_runs
from conformance.report.style import WIDTH, Style

_WIDEST = 40
"""Runs shown at most; older runs are left out."""


def history(options: argparse.Namespace) -> int:
    """Print the history of the cases; returns 0 unless a log cannot be read, and 128 then."""
    damaged: list[UsageError] = []
    found = stored_runs(Path(options.folder), damaged.append)
    if not found and damaged:
        raise damaged[0]
    if not found:
        raise UsageError(
            f"no {NAME} below {options.folder}", hint="give a folder that holds results folders, e.g. conform-results"
        )
    found = found[-_WIDEST:]
    chosen = [each for each in histories([stored.run for stored in found]) if _wanted(each, options)]
    if options.json:
        say(json.dumps(_object(found, chosen)))
    else:
        put(history_lines(found, chosen, Style.of(sys.stdout)), sys.stdout)
    for error in damaged:
        print_error(error)
    return int(ExitCode.BROKEN if damaged else ExitCode.OK)


def history_lines(found: Sequence[StoredRun], chosen: Sequence[CaseHistory], style: Style) -> Iterator[str]:
    """Return the runs, then for each case one line per kernel with a sign for each run."""
    for number, stored in enumerate(found, start=1):
        run = stored.run
        bad, total = len(run.unexpected()), sum(run.counts().values())
        kernels = counted(len(run.slugs), "kernel")
        yield style.cut(f"{number:3}  {run.start.started}  {kernels}, {total} cases, {bad} unexpected", WIDTH)
        for lack in lacks(run):
            yield from style.wrap(lack, first="     INCOMPLETE: ")
        for fact in news(found, number - 1):
            yield from style.wrap(fact, first="     ")
    yield from ("", *style.wrap(LEGEND))
    ordered = sorted(chosen, key=lambda each: each.id)
    cases = {name: list(each) for name, each in groupby(ordered, key=lambda each: each.id)}
    for name in sorted(cases, key=lambda name: (-max(each.flips + each.flaky for each in cases[name]), name)):
        yield from ("", *style.wrap(name, then="  "))
        wide = max(len(style.cut(each.kernel, 24)) for each in cases[name])
        for each in cases[name]:
            first = f"  {style.cut(each.kernel, 24):{wide}}  {each}  "
            yield from style.wrap(_numbers(each), first=first)
    if not chosen:
        yield from ("", "No flips, no flakes, nothing failing in the latest run.")


def _object(found: Sequence[StoredRun], chosen: Sequence[CaseHistory]) -> dict[str, object]:
    """Return the runs, and each case's verdict on each kernel in each run; null where it did not run."""
    return {
        "nights": [
            {"folder": str(stored.path), "started": stored.run.start.started, "incomplete": lacks(stored.run)}
            for stored in found
        ],
        "cases": [
            {
                "id": case.id,
                "kernel": case.kernel,
                "verdicts": [None if each is None else str(each.verdict) for each in case.runs],
                "flips": case.flips,
                "flaky": case.flaky,
            }
            for case in chosen
        ],
    }


def news(found: Sequence[StoredRun], number: int) -> Iterator[str]:
    """Yield the suite and the kernels of a run if they differ from those of the last run that had them."""
    run, earlier = found[number].run, [stored.run for stored in found[:number]]
    was = earlier[-1].start.suite_commit if earlier else None
    if run.start.suite_commit != was:
        yield f"suite {_from(was)}{run.start.suite_commit or 'of an unknown commit'}"
    for slug in run.slugs:
        now = Build.of(run, slug)
        before = next((Build.of(each, slug) for each in reversed(earlier) if slug in each.kernels), None)
        if slug in run.kernels and (before is None or (now.release, now.digest) != (before.release, before.digest)):
            rebuilt = ", rebuilt" if before is not None and before.release == now.release else ""
            old = before.release if before is not None and not rebuilt else None
            yield f"{run.kernel(slug).title} {_from(old)}{now.release or 'of an unknown release'}{rebuilt}"


def _from(before: str | None) -> str:
    return "" if before is None else f"{before or 'unknown'} -> "


def _wanted(case: CaseHistory, options: argparse.Namespace) -> bool:
    named = not options.case or any(fnmatch.fnmatch(case.id, pattern) for pattern in options.case)
    return named and (options.all or case.noteworthy)


def _why(case: CaseHistory) -> str:
    """Say in which runs the case flipped, and whether suite or kernel had changed there."""
    runs: dict[str, list[int]] = {}
    for number, cause in case.causes:
        runs.setdefault(cause, []).append(number)
    changes = [f"{cause} changed in run{'s' * (len(on) > 1)} {_listed(on)}" for cause, on in runs.items()]
    return f" ({'; '.join(changes)})"


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))


def _numbers(case: CaseHistory) -> str:
    flips = f"{counted(case.flips, 'flip')}{_why(case)}" if case.flips else ""
    flakes = f"flaky {case.flaky} of {len(case.judged)} ({case.flake_rate:.0%})" if case.flaky else ""
    return ", ".join(filter(None, (flips, flakes)))
