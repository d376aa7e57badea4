# SPDX-License-Identifier: GPL-2.0-only
"""The report in GitHub's Markdown: for the summary of a CI job, with failures first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from common import foreign
from conformance.model import Verdict
from conformance.report import grid
from conformance.report.absent import absent
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.report.findings import (
    accelerators,
    alike,
    evidence,
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
    why,
    xfails,
)
from conformance.report.known import known_defects
from conformance.report.style import Style

_STYLE = Style()
_COUNTS = ("cases", "pass", "xfail", "skip", "UNEXPECTED")
_text = foreign.markdown
_code = foreign.markdown_code


def render(run: Run) -> str:
    """Return the report."""
    sentence, good = verdict(run)
    cases, facts = tally(run)
    lines = [f"## {'✅' if good else '❌'} {_text(sentence)}", "", f"{cases} {', '.join(facts)}", "", *_kernels(run)]
    lines += [line for sentence in quick(run) for line in ("", _text(sentence))]
    lines += [*_unexpected(run), *_flaky(run)]
    lines += [*_known(run), *_absent(run), *_skipped(run)]
    if run.unseen():
        rows = [(_text(run.kernel(slug).title), run.unseen(slug)) for slug in run.slugs if run.unseen(slug)]
        lines += ["", f"### Never run: {run.unseen()}", "", *_table(("kernel", "cases"), rows)]
    for slug in run.slugs:
        lines += ["", *_kernel(run, slug)]
    return "".join(f"{line}\n" for line in [*lines, "", "---", *_provenance(run)])


def _kernels(run: Run) -> Iterator[str]:
    """Yield a row of counts for each kernel."""
    rows = []
    for slug in run.slugs:
        kernel, seconds = run.kernel(slug), f"{run.seconds(slug):.1f} s"
        counts = _counts(run.cases.get(slug, ()), "not judged" if kernel.error else "")
        rows.append((_text(kernel.title), _text(kernel.release), *counts, seconds))
    return _table(("kernel", "release", *_COUNTS, "time"), rows)


def _unexpected(run: Run) -> Iterator[str]:
    """Yield every unexpected case; those that differ only in their names share one explanation."""
    cases = run.unexpected()
    if cases:
        yield from ("", f"### UNEXPECTED: {len(cases)}")
    for case, *others in alike(cases):
        yield from ("", f"#### {case.verdict.upper()} on {_text(run.kernel(case.kernel).title)}", "")
        yield f"- case {_code(case.id)}"
        said = (
            ("expected", _text(case.expected)),
            ("because", _text(why(case))),
            ("observed", _text(seen(case.observed))),
        )
        yield from (f"- {label} {text}" for label, text in said if text)
        yield from (f"  - {_text(difference)}" for difference in case.differences)
        if believed := spared([case, *others]):
            yield f"- tries {_text(believed)}"
        yield from (f"- row {_text(row)}" for row in rows(case, run.kernel(case.kernel)))
        for each in evidence(case):
            yield from ("", f"{each}:", "", *_block(each.excerpt))
        if case.repeat:
            yield from ("", "repeat:", "", *_block([case.repeat], "sh"))
        if others:
            yield from ("", *_folded(f"the same for {len(others)} more", [f"- {_code(other.id)}" for other in others]))


def _flaky(run: Run) -> Iterator[str]:
    """Yield the cases whose tries disagree."""
    cases = flaky(run)
    if cases:
        rows = [(_code(case.id), _text(run.kernel(case.kernel).title), _text(tries(case))) for case in cases]
        yield from ("", f"### Flaky: {len(cases)}", "", *_table(("case", "kernel", "tries"), rows))


def _known(run: Run) -> Iterator[str]:
    """Yield the known defects, with the number of cases that show each, by kernel."""
    cases = xfails(run)
    if cases:
        found = known_defects(cases)
        shown = [slug for slug in run.slugs if any(slug in each.by_kernel() for each in found)]
        heads = ("defect", "because", "for example", *(_text(run.kernel(slug).title) for slug in shown))
        rows = [
            (_text(each.name), _text(each.reason), _code(each.example), *(each.by_kernel()[slug] for slug in shown))
            for each in found
        ]
        yield from ("", f"### Known defects, as expected: {len(cases)}", "", *_table(heads, rows))


def _absent(run: Run) -> Iterator[str]:
    """Yield the known defects that each kernel's version should show and did not."""
    rows = [
        (_text(run.kernel(slug).title), _text(each.text), "fixed?" if each.fixed else "not seen")
        for slug in run.slugs
        for each in absent(run, slug)
    ]
    if rows:
        title, heads = f"### Known defects that did not show: {len(rows)}", ("kernel", "defect", "state")
        yield from ("", title, "", *_table(heads, rows))


def _skipped(run: Run) -> Iterator[str]:
    """Yield the reasons for skipping."""
    found = skips(run)
    if found:
        rows = [(count, _text(reason), _text(", ".join(specs))) for reason, count, specs in found]
        total = sum(count for _, count, _ in found)
        yield from ("", f"### Skipped: {total}", "", *_table(("cases", "reason", "kernels"), rows))


def _kernel(run: Run, slug: str) -> Iterator[str]:
    """Yield one kernel's identity, its matrices and the counts of its other groups."""
    kernel, cases = run.kernel(slug), run.cases.get(slug, [])
    yield from (f"### {_text(kernel.title)}", "")
    if kernel.error:
        yield from (f"**NOT JUDGED: {_text(kernel.error)}**", "", f"hint: {_text(kernel.hint)}", "")
    yield from (f"- {_text(facts)}" for facts in (*identity(kernel), *(f"Note: {note}" for note in kernel.notes)))
    shown, marks = grid.grids(cases), grid.marks(cases)
    if shown:
        drawn = [*grid.lines(shown, marks, _STYLE), *grid.legend(marks, shown, _STYLE)]
        yield from ("", *_block(drawn))
    groups = dict.fromkeys(case.group for case in cases if not grid.draws(case.group))
    if groups:
        rows = [(_text(group), *_counts([case for case in cases if case.group == group])) for group in groups]
        yield from ("", *_table(("group", *_COUNTS), rows))


def _provenance(run: Run) -> Iterator[str]:
    yield from ("", f"SOCKMAP conformance: {_text(provenance(run))}")
    yield from (f"- {_text(accelerator)}" for accelerator in accelerators(run))


def _counts(cases: Sequence[CaseEvent], instead: str = "") -> tuple[str, ...]:
    """Return the number of cases, of each expected verdict, and of unexpected cases."""
    counts = Counter(case.verdict for case in cases)
    bad = sum(not case.verdict.expected for case in cases)
    cell = instead or (str(bad) if bad else "")
    numbers = (len(cases), *(counts[each] for each in (Verdict.PASS, Verdict.XFAIL, Verdict.SKIP)))
    return (*(str(number or "-") for number in numbers), f"**{cell}**" if cell else "-")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield a table; numbers are aligned to the right."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join('---:' if head in (*_COUNTS, 'time') else '---' for head in heads)}|"
    yield from (f"| {' | '.join(map(str, row))} |" for row in rows)


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>")


def _block(lines: Iterable[str], language: str = "") -> Iterator[str]:
    """Yield a code block, its fence longer than any in it."""
    shown = [foreign.line(line).rstrip() for line in lines]
    fence = "`" * max(3, *(len(run) + 1 for line in shown for run in re.findall("`+", line)), 0)
    yield from (f"{fence}{language}", *shown, fence)
