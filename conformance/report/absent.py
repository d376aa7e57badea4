# SPDX-License-Identifier: GPL-2.0-only
"""The known defects that a kernel of this version should show and did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conformance.model import Ground, Verdict
from conformance.report.events import Run
from conformance.report.known import defects_of

_NOT_ASKED: Final = (Verdict.SKIP, Verdict.INFRA)


@dataclass(frozen=True, slots=True)
class Absent:
    """A known defect that the kernel should show and did not."""

    ground: Ground
    """Its row."""
    fixed: bool
    """Whether cases saw the promise kept instead; otherwise the cases that could show it failed in another way."""

    @property
    def text(self) -> str:
        """The defect's row, its title and its CVE number."""
        number = f" ({self.ground.cve})" if self.ground.cve else ""
        return f"{self.ground.row}: {self.ground.title or self.ground.reason}{number}"


def absent(run: Run, slug: str) -> tuple[Absent, ...]:
    """Return the defects that cases with a verdict could show, those with a CVE number first; none for an older log."""
    cases = [case for case in run.cases.get(slug, ()) if case.verdict not in _NOT_ASKED]
    asked = {row for case in cases for row in case.may_show}
    rows = {verdict: {ground.row for case in cases if case.verdict is verdict for ground in defects_of(case)}
            for verdict in (Verdict.XFAIL, Verdict.XPASS)}  # fmt: skip
    found = (
        Absent(ground, ground.row in rows[Verdict.XPASS])
        for ground in run.kernel(slug).defects
        if ground.row in asked - rows[Verdict.XFAIL]
    )
    return tuple(sorted(found, key=lambda each: (not each.fixed, not each.ground.cve, each.ground.row)))
