# SPDX-License-Identifier: GPL-2.0-only
"""The known defects that a kernel should show by its version and did not."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.model import Ground, Verdict
from conformance.report.events import Run
from conformance.report.known import defects_of


@dataclass(frozen=True, slots=True)
class Absent:
    """One such defect."""

    ground: Ground
    """Its row."""
    fixed: bool
    """Whether cases saw the promise hold in its place; otherwise no case that could show it came to a verdict."""

    @property
    def told(self) -> str:
        """Say what is wrong on other kernels of this version, and with which number."""
        number = f" ({self.ground.cve})" if self.ground.cve else ""
        return f"{self.ground.row}: {self.ground.title or self.ground.reason}{number}"


def absent(run: Run, slug: str) -> tuple[Absent, ...]:
    """Return the defects of groups that were asked, those with a CVE number first; nothing for an older log."""
    cases = run.cases.get(slug, ())
    asked = {case.group for case in cases}
    rows = {verdict: {ground.row for case in cases if case.verdict is verdict for ground in defects_of(case)}
            for verdict in (Verdict.XFAIL, Verdict.XPASS)}  # fmt: skip
    found = (
        Absent(ground, ground.row in rows[Verdict.XPASS])
        for ground in run.kernel(slug).defects
        if ground.row not in rows[Verdict.XFAIL] and group_of(ground) in asked
    )
    return tuple(sorted(found, key=lambda each: (not each.fixed, not each.ground.cve, each.ground.row)))


def group_of(ground: Ground) -> str:
    """Return the group that a row is about: `groups/NAME/defects.toml`."""
    parts = ground.file.split("/")
    return parts[1] if len(parts) > 1 else ""
