# SPDX-License-Identifier: GPL-2.0-only
"""The known defects that a kernel of this version should show and did not."""

from __future__ import annotations

from dataclasses import replace

from conformance.judge.catalogue import on
from conformance.model import Ground, Source, Verdict
from conformance.report.absent import absent
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run, decode, encode
from conformance.report.markdown import render
from conformance.report.text import report_lines
from kernels.version import Version
from tests.conformance import report_runs


def defect(row: str, group: str = "redirect", cve: str = "") -> Ground:
    """Return a row."""
    file = f"groups/{group}/defects.toml"
    return Ground(file=file, row=row, source=Source.DEFECT, reason=f"{row} is wrong", title=f"It has {row}", cve=cve)


SHOWN, GONE, UNSEEN = defect("shown"), defect("gone"), defect("unseen")
NUMBERED, FOREIGN = defect("numbered", cve="CVE-2026-12345"), defect("foreign", "hammer")
UNASKED, SKIPPED = defect("unasked"), defect("skipped")


def run_with(*grounds: Ground) -> Run:
    """Return a run on a kernel that should show these defects: one case shows SHOWN, one sees that GONE is gone.

    A case that could show UNSEEN and NUMBERED fails in another way, one that could show SKIPPED is skipped.
    """
    run = report_runs.healthy()
    (slug,) = run.slugs[:1]
    some = run.cases[slug][0]
    shown = ((SHOWN, Verdict.XFAIL), (GONE, Verdict.XPASS))
    cases: list[CaseEvent] = [
        replace(some, id=f"redirect/{ground.row}", verdict=verdict, grounds=(ground,), may_show=(ground.row,))
        for ground, verdict in shown
    ]
    others = ((Verdict.FAIL, ("unseen", "numbered")), (Verdict.SKIP, ("skipped",)), (Verdict.INFRA, ("skipped",)))
    cases += [replace(some, id=f"redirect/{verdict}", verdict=verdict, may_show=rows) for verdict, rows in others]
    found = Run(run.start)
    found.add(replace(run.kernel(slug), defects=grounds))
    for case in cases:
        found.add(case)
    return found


def test_defects_that_did_not_show_are_listed() -> None:
    """One that cases saw to be gone first, then CVEs; what shows, or what no case that was asked could show, is not."""
    run = run_with(SHOWN, UNSEEN, NUMBERED, FOREIGN, UNASKED, SKIPPED, GONE)
    (slug,) = run.slugs[:1]

    assert [(each.ground, each.fixed) for each in absent(run, slug)] == [
        (GONE, True),
        (NUMBERED, False),
        (UNSEEN, False),
    ]


def test_a_report_lists_them_by_kernel() -> None:
    """Text and Markdown say which defects seem fixed and which could not be seen."""
    run = run_with(SHOWN, NUMBERED, GONE)
    text, markdown = "\n".join(report_lines(run)), render(run)

    assert "fixed?    gone: It has gone" in text
    assert "not seen  numbered: It has numbered (CVE-2026-12345)" in text
    assert "### Known defects that did not show: 2" in markdown
    assert "shown: It has shown" in text


def test_a_log_keeps_what_a_kernel_should_show() -> None:
    """The defects of a version are in the kernel's event, and come back as they were; a report needs nothing else."""
    owed = tuple(each.as_ground(Version.parse("6.18.15")) for each in on(Version.parse("6.18.15")))
    run = run_with(*owed)
    event = run.kernel(run.slugs[0])

    assert any(ground.cve for ground in event.defects)
    assert decode(encode(event)) == event
