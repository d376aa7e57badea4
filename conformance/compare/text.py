# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as plain text of 80 columns, and as a paragraph that fits a reply to a mailing list."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from common.words import counted
from conformance.compare.model import Change, Comparison, Difference, Side, TryResult
from conformance.report.bug_report import command_lines
from conformance.report.event_types import KernelEvent
from conformance.report.findings import identity
from conformance.report.style import Style
from conformance.report.text import rule

_PLAIN = Style()
_COLUMNS = 71
"""Columns of the paragraph: a reply that quotes it stays below 80."""
_NAMED = 3
"""Groups that the paragraph names; the others are counted."""
_LISTED = 12
"""Groups other than regressions that the report lists."""

FIRST = (Change.REGRESSION, Change.FIX, Change.STILL_FAILING, Change.UNSTABLE)
THEN = (Change.CHANGED, Change.APPEARED, Change.VANISHED, Change.NOT_JUDGED, Change.AS_PROMISED, Change.SAME)
_PLURAL = {Change.REGRESSION: "regressions", Change.FIX: "fixes"}
_COLOURS = {Change.REGRESSION: "bad", Change.FIX: "good", Change.UNSTABLE: "known", Change.NOT_JUDGED: "bad"}


def comparison_lines(comparison: Comparison, style: Style = _PLAIN) -> list[str]:
    """Return the whole comparison, the counts first."""
    lines = [rule(f"base {comparison.base.title}", comparison.base.release, style)]
    lines += [line for fact in identity(comparison.base) for line in style.wrap(fact, then="  ")]
    lines.append(rule(f"head {comparison.head.title}", comparison.head.release, style))
    lines += [line for fact in identity(comparison.head) for line in style.wrap(fact, then="  ")]
    lines.append(rule("what differs between them", "", style))
    lines += [line for sentence in comparison.unlike for line in style.wrap(sentence, then="  ")]
    lines += ["", *counts_lines(comparison, style)]
    lines += [line for note in comparison.notes for line in style.wrap(note, first="Note: ")]
    for change in (*FIRST, *THEN):
        if change is not Change.SAME and comparison.of(change):
            lines += ["", *_section(comparison, change, style)]
    return lines


def brief_lines(comparison: Comparison, style: Style = _PLAIN) -> list[str]:
    """Return the counts and what has regressed, for those who asked for quiet."""
    lines = counts_lines(comparison, style)
    lines += [line for note in comparison.notes for line in style.wrap(note, first="Note: ")]
    if comparison.of(Change.REGRESSION):
        lines += ["", *_section(comparison, Change.REGRESSION, style)]
    return lines


def counts_lines(comparison: Comparison, style: Style = _PLAIN) -> list[str]:
    """Return the four counts that matter, then the others."""
    counts = comparison.counts()

    def entry(change: Change) -> tuple[str, str, str]:
        number = str(counts[change])
        word = str(change) if counts[change] == 1 else _PLURAL.get(change, str(change))
        return number, _COLOURS.get(change, "") if counts[change] else "", word

    rest = [entry(change) for change in THEN if counts[change]]
    return [*style.flow(map(entry, FIRST), gap=3), *style.flow(rest, gap=3)]


def paragraph(comparison: Comparison) -> list[str]:
    """Return the comparison as prose that can be pasted into a mail."""
    counts = comparison.counts()
    judged = len(comparison.differences) - counts[Change.APPEARED] - counts[Change.VANISHED]
    said = [_counted(counts[change], change) for change in FIRST]
    suites = dict.fromkeys(filter(None, comparison.suites))
    suite = f" ({' for base, '.join(suites)}{' for head' * (len(suites) > 1)})" if suites else ""
    sentences = [
        f"SOCKMAP conformance{suite}, {counted(judged, 'case')} on both kernels: {', '.join(said)}.",
        f"Base: {_named(comparison.base)}.",
        f"Head: {_named(comparison.head)}.",
    ]
    groups = grouped(comparison.of(Change.REGRESSION))
    sentences += [f"Regression: {group[0].id}{_and_more(group)}, {_from_to(group[0])}." for group in groups[:_NAMED]]
    if len(groups) > _NAMED:
        sentences.append(f"{len(groups) - _NAMED} more groups of regressions are not named here.")
    if comparison.tries:
        where = "a fresh VM each time" if comparison.alone else "fresh VMs"
        times = "once" if comparison.tries == 1 else f"{comparison.tries} times"
        sentences.append(f"Every differing case was repeated {times} on both kernels, in {where}.")
    folder = textwrap.TextWrapper(_COLUMNS, break_on_hyphens=False)
    return folder.wrap(Style(unicode=False).show(" ".join(sentences)))


def grouped(differences: Sequence[Difference]) -> list[list[Difference]]:
    """Group the cases that differ in the same way, for the same reason and, unless unstable, equally often."""
    groups: dict[object, list[Difference]] = {}
    for each in differences:
        how: tuple[object, ...] = (frozenset(each.base.seen), frozenset(each.head.seen))
        if each.change is not Change.UNSTABLE:
            how = (*_symptoms(each), _because(each.base), _because(each.head), _tally(each.base), _tally(each.head))
        groups.setdefault((each.id.partition("/")[0], *how), []).append(each)
    return list(groups.values())


def bisect_command(base: KernelEvent, head: KernelEvent, difference: Difference) -> str:
    """Return the `git bisect` command that finds the commit; empty if the commits between are unknown."""
    ends = [kernel.package.get("commit", "")[:12] for kernel in (head, base)]
    if not all(ends):
        ends = [f"v{kernel.version}" for kernel in (head, base)] if head.version and base.version else []
    if len(set(ends)) < len(("head", "base")):
        return ""
    repeat = f"./conform run --kernel tree:. --case {shlex.quote(difference.id)}"
    return f"git bisect start {' '.join(ends)} && git bisect run {repeat}"


def _section(comparison: Comparison, change: Change, style: Style) -> Iterator[str]:
    found = comparison.of(change)
    yield rule(f"{_PLURAL.get(change, str(change)).upper()}: {len(found)}", "", style, _COLOURS.get(change, "strong"))
    groups = grouped(found)
    shown = groups if change is Change.REGRESSION else groups[:_LISTED]
    for number, group in enumerate(shown, start=1):
        if change is Change.REGRESSION:
            yield from _regression(comparison, number, group, style)
        else:
            yield from _brief(group, style)
    if len(groups) > len(shown):
        cases = sum(map(len, groups[len(shown) :]))
        yield from style.wrap(f"and {cases} more cases, of {len(groups) - len(shown)} kinds", first="  ")


def _regression(comparison: Comparison, number: int, group: Sequence[Difference], style: Style) -> Iterator[str]:
    first, *others = group
    yield from style.wrap(first.id, first=f"{number}. ")
    was, now = _symptoms(first)
    for label, side, said in (("base", first.base, was), ("head", first.head, now)):
        yield from style.wrap(f"{said} {_tally(side)}".rstrip(), first=f"   {label:9} ")
    bad = next((each for each in first.head.seen if each.splat), None)
    if bad is not None and bad.splat not in now:
        yield from style.wrap(bad.splat, first="   splat     ")
    because = _because(first.head)
    if because:
        yield from style.wrap(because, first="   because   ")
    yield from command_lines("repeat", first.head.repeat, style)
    bisect = bisect_command(comparison.base, comparison.head, first)
    for label, command in zip(("bisect", ""), bisect.split(" && "), strict=False):
        yield from command_lines(label, command, style)
    if others:
        yield f"   the same for {len(others)} more:"
        for other in others:
            yield from style.wrap(other.id, first="     ")


def _brief(group: Sequence[Difference], style: Style) -> Iterator[str]:
    first = group[0]
    yield from style.wrap(f"{first.id}{_and_more(group)}", first=f"{len(group):6}  ")
    yield from style.wrap(_from_to(first), first="        ")
    because = _because(first.head) or _because(first.base)
    if because and first.change not in (Change.APPEARED, Change.VANISHED):
        yield from style.wrap(because, first="        ")


def _from_to(difference: Difference) -> str:
    was, now = _symptoms(difference)
    return was if was == now else f"{was} -> {now}"


def _symptoms(difference: Difference) -> tuple[str, str]:
    """Return the results of both sides, without what they have in common."""
    sides = difference.base, difference.head
    if difference.change is Change.UNSTABLE:
        base, head = (_each(side) for side in sides)
        return base, head
    was, now = (_most_frequent(side) for side in sides)
    return _said(was, now), _said(now, was)


def _most_frequent(side: Side) -> TryResult | None:
    """Return a side's most frequent result, or why it has none."""
    return side.frequencies().most_common(1)[0][0] if side.seen else side.first


def _said(symptom: TryResult | None, other: TryResult | None) -> str:
    return symptom.beside(other) if symptom is not None else "not among the cases"


def _each(side: Side) -> str:
    """Return all results of a side, with how often each was seen."""
    seen = Counter(side.seen)
    others = {symptom: next((each for each in seen if each != symptom), None) for symptom in seen}
    return " or ".join(f"{symptom.beside(others[symptom])} ({seen[symptom]}x)" for symptom in seen) or "nothing"


def _tally(side: Side) -> str:
    """Return in how many tries a side had its most frequent result."""
    hits = max(side.frequencies().values(), default=0)
    return f"({hits} of {len(side.counted)} tries)" if side.tries else ""


def _because(side: Side) -> str:
    result = _most_frequent(side)
    return result.reason if result is not None else ""


def _and_more(group: Sequence[Difference]) -> str:
    return f" and {len(group) - 1} more" if len(group) > 1 else ""


def _named(kernel: KernelEvent) -> str:
    return f"{kernel.release} ({kernel.title})" if kernel.release != kernel.spec else kernel.spec


def _counted(count: int, change: Change) -> str:
    word = str(change) if count == 1 else _PLURAL.get(change, str(change))
    return f"{count or 'no'} {word}" if change in _PLURAL else f"{count or 'none'} {word}"
