# SPDX-License-Identifier: GPL-2.0-only
"""The known defects of a run, each once: what is wrong, on which kernels, and the case that shows it best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from conformance.model import Ground, Source
from conformance.report.event_types import CaseEvent


@dataclass(frozen=True, slots=True)
class Known:
    """One defect, and the cases that show it."""

    name: str
    """The id of its row; empty if only a list of known splats excuses a case."""
    reason: str
    """What is wrong, then commits and links. The first version is left out: it differs from branch to branch."""
    cases: tuple[CaseEvent, ...]
    places: tuple[str, ...] = ()
    """Its row: the file and the id in it."""
    title: str = ""
    """What is wrong, in one sentence; empty if the reason serves as title."""
    cves: tuple[str, ...] = ()
    """Its CVE numbers."""

    @property
    def example(self) -> str:
        """The id of an example: the shortest among the cases that show few other defects."""
        return min(self.cases, key=lambda case: (len(defects_of(case)), len(case.id), case.id)).id

    def by_kernel(self) -> Counter[str]:
        """Return the number of cases that show it, by the kernel's slug."""
        return Counter(case.kernel for case in self.cases)


def known_defects(cases: Iterable[CaseEvent]) -> list[Known]:
    """Return the known defects that such cases show: those with a CVE number first, then by name."""
    found: dict[tuple[str, str], list[tuple[CaseEvent, Ground]]] = {}
    for case in cases:
        for ground in defects_of(case):
            name = ground.row if ground.source is Source.DEFECT else ""
            # A defect without a name is identified by its reason.
            found.setdefault((name, "" if name else ground.reason), []).append((case, ground))
    known = [_known(name, shown) for (name, _), shown in sorted(found.items())]
    return sorted(known, key=lambda each: not each.cves)


def defects_of(case: CaseEvent) -> tuple[Ground, ...]:
    """Return the defects of a case, or else the entries of lists that excuse it.

    The log of an older suite has no grounds, only the names of defects and one reason for all.
    """
    for source in (Source.DEFECT, Source.LIST):
        if grounds := tuple(ground for ground in case.grounds if ground.source is source):
            return grounds
    if not case.deviation:
        return (Ground(file="", row="", source=Source.LIST, reason=case.reason),)
    return tuple(Ground(file="", row=name, source=Source.DEFECT, reason=case.reason) for name in case.deviation.split())


def summary_of(grounds: Sequence[Ground]) -> str:
    """Return one sentence for several rows of one defect: what is wrong, commits and links."""
    what, commits, links = (
        "; ".join(filter(None, dict.fromkeys(each)))
        for each in zip(*((ground.reason, _commit(ground), _link(ground)) for ground in grounds), strict=True)
    )
    # Each row of a defect has its own commit, which may concern some of the kernels or kinds only.
    partly = "for some cases " if len({ground.commit for ground in grounds}) > 1 else ""
    return "; ".join(filter(None, [f"{what} ({partly}{commits})" if commits else what, links]))


def _commit(ground: Ground) -> str:
    return f'{ground.commit} "{ground.subject}"' if ground.subject else ground.commit


def _link(ground: Ground) -> str:
    return "; ".join(filter(None, (ground.cve, ground.link)))


def _known(name: str, shown: Sequence[tuple[CaseEvent, Ground]]) -> Known:
    grounds = [ground if name else replace(ground, link="") for _, ground in shown]
    cases = {(case.kernel, case.id): case for case, _ in shown}
    places = tuple(dict.fromkeys(ground.place for ground in grounds if ground.file))
    return Known(
        name,
        summary_of(grounds) or "no reason given",
        tuple(cases.values()),
        places,
        title=next((ground.title for ground in grounds if ground.title), ""),
        cves=tuple(dict.fromkeys(ground.cve for ground in grounds if ground.cve)),
    )
