# SPDX-License-Identifier: GPL-2.0-only
"""`conform history`: the strips of all nights in a folder, those first that say most."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from common.errors import UsageError
from common.say import put, say
from conformance.nightly.history import LEGEND, Build, Strip, strips
from conformance.report.events import NAME
from conformance.report.night import Night, nights
from conformance.report.style import WIDTH, Style

_WIDEST = 40
"""Nights that a strip has room for; older ones are left out."""


def history(options: argparse.Namespace) -> int:
    """Print what the cases have come to; never judges, so it is 0 unless there is nothing to read."""
    found = nights(Path(options.folder))
    if not found:
        raise UsageError(
            f"no {NAME} below {options.folder}", hint="give a folder that holds results folders, e.g. conform-results"
        )
    found = found[-_WIDEST:]
    chosen = [each for each in strips([night.run for night in found]) if _wanted(each, options)]
    if options.json:
        say(json.dumps(_object(found, chosen)))
        return 0
    put(history_lines(found, chosen, Style.of(sys.stdout)), sys.stdout)
    return 0


def history_lines(found: Sequence[Night], chosen: Sequence[Strip], style: Style) -> Iterator[str]:
    """Return the nights, then the strips of each case, a kernel a line."""
    for number, night in enumerate(found, start=1):
        run = night.run
        bad, total = len(run.unexpected()), sum(run.counts().values())
        kernels = f"{len(run.slugs)} kernel{'s' * (len(run.slugs) != 1)}"
        yield style.cut(f"{number:3}  {run.start.started}  {kernels}, {total} cases, {bad} unexpected", WIDTH)
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


def _object(found: Sequence[Night], chosen: Sequence[Strip]) -> dict[str, object]:
    """Return the nights, and of each case on each kernel its verdict in each of them; null where it did not run."""
    return {
        "nights": [{"folder": str(night.path), "started": night.run.start.started} for night in found],
        "cases": [
            {
                "id": strip.id,
                "kernel": strip.kernel,
                "verdicts": [None if each is None else str(each.verdict) for each in strip.nights],
                "flips": strip.flips,
                "flaky": strip.flaky,
            }
            for strip in chosen
        ],
    }


def news(found: Sequence[Night], number: int) -> Iterator[str]:
    """Yield the suite and the kernels of a night, where they are others than in the last night that had them."""
    run, earlier = found[number].run, [night.run for night in found[:number]]
    was = earlier[-1].start.suite_commit if earlier else None
    if run.start.suite_commit != was:
        yield f"suite {_from(was)}{run.start.suite_commit or 'of no known commit'}"
    for slug in run.slugs:
        now = Build.of(run, slug)
        before = next((Build.of(each, slug) for each in reversed(earlier) if slug in each.kernels), None)
        if slug in run.kernels and (before is None or (now.release, now.digest) != (before.release, before.digest)):
            rebuilt = ", rebuilt" if before is not None and before.release == now.release else ""
            old = before.release if before is not None and not rebuilt else None
            yield f"{run.kernel(slug).title} {_from(old)}{now.release or 'of no known release'}{rebuilt}"


def _from(before: str | None) -> str:
    return "" if before is None else f"{before or 'unknown'} -> "


def _wanted(strip: Strip, options: argparse.Namespace) -> bool:
    named = not options.case or any(fnmatch.fnmatch(strip.id, pattern) for pattern in options.case)
    return named and (options.all or strip.noteworthy)


def _why(strip: Strip) -> str:
    """Say which of suite and kernel had changed when a case flipped: by nights, or once if it was always the same."""
    nights: dict[str, list[int]] = {}
    for night, cause in strip.causes:
        nights.setdefault(cause, []).append(night)
    told = [f"{cause} changed in night{'s' * (len(on) > 1)} {_listed(on)}" for cause, on in nights.items()]
    return f" ({'; '.join(told)})"


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))


def _numbers(strip: Strip) -> str:
    flips = f"{strip.flips} flip{'s' * (strip.flips != 1)}{_why(strip)}" if strip.flips else ""
    flakes = f"flaky {strip.flaky} of {len(strip.judged)} ({strip.flake_rate:.0%})" if strip.flaky else ""
    return ", ".join(filter(None, (flips, flakes)))
