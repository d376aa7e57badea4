# SPDX-License-Identifier: GPL-2.0-only
"""The known deviations of a run, each once: what is wrong, on which kernels, and the case that shows it best.

A row of the tables has a name; rows that differ in nothing but a number behind it (`deaf-1`, `deaf-2`) say the same of
other cases, and are one deviation here. A case that shows several counts for each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from conformance.report.events import CaseEvent

_PREFIX: Final = "known deviation "
_NUMBER: Final = re.compile(r"-\d+$")
_TOLD: Final = re.compile(
    r"(?P<what>.*?) \((?:(?P<commit>[0-9a-f]{12,40}(?: \".*\")?), )?since (?P<since>[^\s()]+)\)(?:; (?P<link>.+))?"
)
"""What Deviation.because() says after the name."""


@dataclass(frozen=True, slots=True)
class Known:
    """One deviation, and the cases that show it."""

    name: str
    """Empty where only a list of known splats excuses a case."""
    reason: str
    """What is wrong, then commits and links; from which version on differs from branch to branch, and is not told."""
    cases: tuple[CaseEvent, ...]

    @property
    def example(self) -> str:
        """The id of a case that shows it: of those that show little else the shortest."""
        return min(self.cases, key=lambda case: (case.deviation.count(" "), len(case.id), case.id)).id

    def by_kernel(self) -> Counter[str]:
        """Return how many cases show it, by the kernel's slug."""
        return Counter(case.kernel for case in self.cases)


def known_deviations(cases: Iterable[CaseEvent]) -> list[Known]:
    """Return the known deviations that such cases show, by name."""
    found: dict[tuple[str, str], list[tuple[CaseEvent, str]]] = {}
    for case in cases:
        for name, told in reasons_of(case):
            # What has no name is what its reason is.
            key = _NUMBER.sub("", name), "" if name else told
            found.setdefault(key, []).append((case, told))
    return [_known(name, shown) for (name, _), shown in sorted(found.items())]


def reasons_of(case: CaseEvent) -> Iterator[tuple[str, str]]:
    """Yield each deviation a case is about, by the name of its row, with what is said of it."""
    if not case.deviation:
        yield "", case.reason
        return
    told = re.split(f"; (?={_PREFIX})", case.reason)
    for name in case.deviation.split():
        title = f"{_PREFIX}{name}: "
        yield name, next((part.removeprefix(title) for part in told if part.startswith(title)), case.reason)


def _known(name: str, shown: list[tuple[CaseEvent, str]]) -> Known:
    """Put together what is said of one deviation; from when on it holds differs from branch to branch."""
    parts = [_TOLD.fullmatch(told) for told in dict.fromkeys(told for _, told in shown)]
    if None in parts:
        reason = "; ".join(dict.fromkeys(told for _, told in shown))
    else:
        said = {what: dict.fromkeys(part[what] for part in parts if part) for what in ("what", "commit", "link")}
        what, commits, links = ("; ".join(filter(None, each)) for each in said.values())
        # A row has its own commit, which may have to do with some of the kernels or the kinds only.
        partly = "in part " if len(said["commit"]) > 1 else ""
        reason = "; ".join(filter(None, [f"{what} ({partly}{commits})" if commits else what, links]))
    cases = {(case.kernel, case.id): case for case, _ in shown}
    return Known(name, reason or "no reason given", tuple(cases.values()))
