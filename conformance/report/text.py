# SPDX-License-Identifier: GPL-2.0-only
"""The report as plain text of 80 columns: for a terminal in colour, for a mailing list without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from conformance.model import Verdict
from conformance.report import grid
from conformance.report.absent import absent
from conformance.report.bug_report import bug_report, folded
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.report.findings import (
    accelerators,
    alike,
    flaky,
    identity,
    provenance,
    quick,
    rows,
    seen,
    skips,
    spared,
    tally,
    tries,
    verdict,
    xfails,
)
from conformance.report.known import known_defects
from conformance.report.style import WIDTH, Style

_PLAIN = Style()
_SHOWN = 3
"""Differences of a case that are shown during the run."""


def report_lines(run: Run, style: Style = _PLAIN) -> list[str]:
    """Return the whole report; the last line is the verdict."""
    lines = [*head(run, style), ""]
    for slug in run.slugs:
        lines += [*kernel_section(run, slug, style), ""]
    sections = (unexpected_section, flaky_section, known_section, absent_section, skipped_section, unseen_section)
    for section in sections:
        if found := section(run, style):
            lines += [*found, ""]
    lines += [line for sentence in quick(run) for line in style.wrap(style.call(sentence), then="  ")]
    return [*lines, *verdict_lines(run, style)]


def head(run: Run, style: Style = _PLAIN) -> list[str]:
    """Return the head: suite and tools, and a row of counts for each kernel."""
    lines = style.wrap(provenance(run), first="SOCKMAP conformance: ", then="  ")
    for accelerator in accelerators(run):
        lines += style.wrap(accelerator, then="  ")
    return [*lines, "", *_table(run, style)]


def kernel_section(run: Run, slug: str, style: Style = _PLAIN) -> list[str]:
    """Return one kernel's identity, machine and grids."""
    kernel, cases = run.kernel(slug), run.cases.get(slug, [])
    lines = [rule(kernel.title, kernel.release, style)]
    for facts in identity(kernel):
        lines += style.wrap(facts, then="  ")
    for note in kernel.notes:
        lines += style.wrap(note, first="Note: ")
    if kernel.error:
        lines += [style.paint(line, "bad") for line in style.wrap(kernel.error, first="NOT JUDGED: ")]
        lines += style.wrap(style.call(kernel.hint), first="hint: ") if kernel.hint else []
    shown, marks = grid.grids(cases), grid.marks(cases)
    if shown:
        lines += ["", *grid.lines(shown, marks, style), *grid.legend(marks, shown, style)]
    listed = list(_groups(cases, style))
    return [*lines, "", *listed] if listed else lines


def unexpected_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """List every unexpected case; those that differ only in their names share one explanation."""
    cases = run.unexpected()
    if not cases:
        return []
    lines = [rule(f"UNEXPECTED: {len(cases)}", "", style, "bad")]
    for number, group in enumerate(alike(cases), start=1):
        lines += ["", *_unexpected(run, number, group, style)]
    return lines


def flaky_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """List the cases whose tries disagree, with the result of each try."""
    cases = flaky(run)
    if not cases:
        return []
    lines = [rule(f"Flaky: {len(cases)}", "", style, "bad")]
    for case in cases:
        lines += style.wrap(f"{case.id} on {run.kernel(case.kernel).title}", first="  ")
        lines += style.wrap(tries(case), first="     ")
    return lines


def known_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """List the known defects, with the number of cases that show each and one of them."""
    cases = xfails(run)
    lines = [rule(f"Known defects, as expected: {len(cases)}", "", style)] if cases else []
    for each in known_defects(cases):
        counts = each.by_kernel()
        kernels = [
            (f"{count} on " if len(counts) > 1 else "") + run.kernel(slug).title for slug, count in counts.items()
        ]
        name = f"{', '.join(filter(None, (each.name, *each.cves)))}: " if each.name else ""
        lines += style.wrap(f"{name}{each.title or each.reason} ({', '.join(kernels)})", first=f"{len(each.cases):6}  ")
        lines += style.wrap(each.reason, first=" " * 8) if each.title else []
        lines += style.wrap(each.example, first=" " * 8)
        lines += [line for place in each.places for line in style.wrap(place, first=" " * 8)]
    return lines


def absent_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """List the known defects that each kernel's version should show and did not."""
    lines: list[str] = []
    for slug in run.slugs:
        found = absent(run, slug)
        if found:
            lines += [rule("Known defects that did not show", style.show(run.kernel(slug).title), style)]
        for each in found:
            state = "fixed?" if each.fixed else "not seen"
            lines += style.wrap(each.text, first=f"{state:8}  ")
    return lines


def skipped_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """Count the skipped cases by reason."""
    found = skips(run)
    lines = [rule(f"Skipped: {sum(count for _, count, _ in found)}", "", style)] if found else []
    for reason, count, specs in found:
        lines += style.wrap(f"{reason} ({', '.join(specs)})", first=f"{count:6}  ")
    return lines


def unseen_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """Return the number of selected cases without a verdict."""
    missing = [(slug, run.unseen(slug)) for slug in run.slugs if run.unseen(slug)]
    if not missing:
        return []
    rows = [f"{count:6}  {run.kernel(slug).title}" for slug, count in missing]
    return [rule(f"Never run: {run.unseen()}", "", style), *(style.cut(row, WIDTH) for row in rows)]


def verdict_lines(run: Run, style: Style = _PLAIN) -> list[str]:
    """Return the verdict sentence with its counts and seconds; one line wherever it fits."""
    sentence, good = verdict(run)
    cases, facts = tally(run)
    entries = [(sentence, "good" if good else "bad", cases), *(("", "", f"{fact},") for fact in facts[:-1])]
    return style.flow([*entries, ("", "", facts[-1])], gap=1)


def case_lines(run: Run, case: CaseEvent, style: Style = _PLAIN) -> list[str]:
    """Return the lines about one unexpected case during the run."""
    title = f"{case.verdict.upper()} {run.kernel(case.kernel).title} {case.id}"
    first, *rest = style.wrap(title, then="  ")
    verdict = style.paint(case.verdict.upper(), "bad")
    words = f"expected {case.expected}, observed {seen(case.observed)}" if case.expected else ""
    lines = [verdict + first.removeprefix(case.verdict.upper()), *rest]
    lines += style.wrap(words, first="  ") if words else []
    differences = folded(case.differences)
    lines += [line for each in differences[:_SHOWN] for line in style.wrap(each, first="  ")]
    lines += [f"  and {len(differences) - _SHOWN} more differences"] if len(differences) > _SHOWN else []
    return lines + [line for row in rows(case, run.kernel(case.kernel)) for line in style.wrap(row, first="  ")]


def _table(run: Run, style: Style) -> list[str]:
    """Return a row of counts for each kernel."""
    rows = [_row(run, slug, style) for slug in run.slugs]
    specs = [style.cut(spec, 18) for spec, _, _ in rows]
    wide = max(map(len, ("kernel", *specs)))
    numbers = " cases  pass xfail skip UNEXPECTED   time"
    releases = [style.cut(release, WIDTH - wide - len(numbers) - 2) for _, release, _ in rows]
    broad = max(map(len, ("release", *releases)))
    lines = [style.paint(f"{'kernel':{wide}}  {'release':{broad}}{numbers}", "faint")]
    for spec, release, (_, _, counts) in zip(specs, releases, rows, strict=True):
        lines.append(f"{spec:{wide}}  {release:{broad}}{counts}")
    return lines


def _row(run: Run, slug: str, style: Style) -> tuple[str, str, str]:
    """Return a kernel's spec, release and counts."""
    kernel, counts, bad = run.kernel(slug), run.counts(slug), len(run.unexpected(slug))
    seconds = run.seconds(slug)
    time = f"{seconds:.1f}s" if seconds < 1000 else f"{seconds:.0f}s"
    passed, known, skipped = (counts[each] or "-" for each in (Verdict.PASS, Verdict.XFAIL, Verdict.SKIP))
    unexpected = f"{'not judged' if kernel.error else bad or '-':>10}"
    unexpected = style.paint(unexpected, "bad" if bad or kernel.error else "good")
    numbers = f" {sum(counts.values()) or '-':>5} {passed:>5} {known:>5} {skipped:>4} {unexpected} {time:>6}"
    return kernel.title, kernel.release, numbers


def rule(left: str, right: str, style: Style, colour: str = "strong") -> str:
    """Return a heading that spans the page, its left part in colour."""
    line = style.show("─")
    left = style.cut(left, WIDTH - 8)
    right = style.cut(right, WIDTH - 12 - len(left)) if len(left) < WIDTH - 16 else ""
    end = f" {right} {line * 2}" if right else ""
    fill = line * (WIDTH - len(left) - len(end) - 4)
    return f"{line * 2} {style.paint(left, colour)} {fill}{end}"


def _groups(cases: Sequence[CaseEvent], style: Style) -> Iterator[str]:
    """Yield a row of counts for each group that has no grid."""
    groups = list(dict.fromkeys(case.group for case in cases if not grid.draws(case.group)))
    wide = max(len(style.show(group)) for group in ("group", *groups))
    if groups:
        yield style.paint(f"{'group':{wide}} cases  pass xfail skip UNEXPECTED", "faint")
    for group in groups:
        verdicts = [case.verdict for case in cases if case.group == group]
        counts, bad = Counter(verdicts), sum(not verdict.expected for verdict in verdicts)
        passed, known, skipped = (counts[each] or "-" for each in (Verdict.PASS, Verdict.XFAIL, Verdict.SKIP))
        unexpected = style.paint(f"{bad or '-':>10}", "bad" if bad else "good")
        yield f"{style.show(group):{wide}} {len(verdicts):>5} {passed:>5} {known:>5} {skipped:>4} {unexpected}"


def _unexpected(run: Run, number: int, group: Sequence[CaseEvent], style: Style) -> list[str]:
    case, *others = group
    kernel = run.kernel(case.kernel)
    title = f"{number}. {style.paint(case.verdict.upper(), 'bad')} on {style.cut(kernel.title, 40)}"
    lines = bug_report(case, kernel, title, style)
    if tried := spared(group):
        lines += style.wrap(tried, first=f"   {'tries':9} ")
    if others:
        lines.append(f"   the same for {len(others)} more:")
        lines += [line for other in others for line in style.wrap(other.id, first="     ")]
    return lines


def render(run: Run) -> str:
    """Return the report without colour."""
    return "".join(f"{line}\n" for line in report_lines(run))
