# SPDX-License-Identifier: GPL-2.0-only
"""The known defects as values: each once, with all its rows, from the tables alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from conformance.expect.verified import newest_known
from conformance.groups import GROUPS
from conformance.judge import defects
from conformance.judge.defects import Deviation
from conformance.model import MAINLINE, Case, Ground
from kernels.version import Version


@dataclass(frozen=True, slots=True)
class AffectedRange:
    """The kernels on which a row applies, and the commit that fixed it."""

    since: Mapping[str, str]
    """The first version, by `mainline` and by stable branch."""
    until: Mapping[str, str]
    """The first version without it; empty if there is none."""
    commit: str
    subject: str

    @property
    def fix(self) -> bool:
        """Whether the commit is the fix, and not the origin."""
        return bool(self.until)


@dataclass(frozen=True, slots=True)
class Defect:
    """One known defect."""

    id: str
    ways: tuple[Deviation, ...]
    """Its rows, in one group or several."""

    @property
    def title(self) -> str:
        """What is wrong, in one sentence."""
        return next((way.title for way in self.ways if way.title), self.cause)

    @property
    def cause(self) -> str:
        """Why the kernel does so."""
        return self.ways[0].rule.reason

    @property
    def cves(self) -> tuple[str, ...]:
        """Its CVE numbers."""
        return _unique(way.cve for way in self.ways)

    @property
    def links(self) -> tuple[str, ...]:
        """Addresses of reports."""
        return _unique(way.link for way in self.ways)

    @property
    def places(self) -> tuple[str, ...]:
        """The file of each of its rows, and the id in it."""
        return _unique(way.as_ground().place for way in self.ways)

    @property
    def racy(self) -> bool:
        """Whether it shows by chance."""
        return all(way.racy for way in self.ways)

    @property
    def open(self) -> bool:
        """Whether the newest kernel that the tables know shows it."""
        return self.shows_on(newest_known())

    def shows_on(self, version: Version) -> bool:
        """Whether a kernel of that version shows it, by any row."""
        return any(way.rule.in_force(version) for way in self.ways)

    def spans(self) -> tuple[AffectedRange, ...]:
        """Return the ranges of kernels that show it, one for each end; those without an end first."""
        found: dict[tuple[object, ...], AffectedRange] = {}
        for affected in map(_range, self.ways):
            key = (affected.commit, tuple(affected.until.items()))
            found[key] = min(found.get(key, affected), affected, key=lambda each: Version.parse(each.since[MAINLINE]))
        return tuple(
            sorted(found.values(), key=lambda affected: (affected.fix, Version.parse(affected.since[MAINLINE])))
        )

    def as_ground(self, version: Version) -> Ground:
        """Return its row for kernels of that version."""
        way = next((way for way in self.ways if way.rule.in_force(version)), self.ways[0])
        return replace(way.as_ground(), steps=())

    def case(self, version: Version | None = None) -> str:
        """Return the id of the case that shows it best, on a kernel of that version if one is given."""
        ways = [way for way in self.ways if version is None or way.rule.in_force(version)] or list(self.ways)
        showing = {case.id: case for case in _cases(ways)}
        named = [way.case for way in ways if way.case in showing]
        return named[0] if named else min((_fewest(case), len(id_), id_) for id_, case in showing.items())[2]


def _fewest(case: Case) -> int:
    """Count the other defects that a case may show: the best case shows no other."""
    return len({str(row) for row in defects.about(case)})


def _cases(ways: Sequence[Deviation]) -> Iterator[Case]:
    for way in ways:
        for case in GROUPS[_group(way)].cases():
            if way.rule.matches(case.params):
                yield case


def _group(way: Deviation) -> str:
    """Return the group that a row is about: `groups/NAME/defects.toml`."""
    return way.rule.file.split("/")[1]


def _range(way: Deviation) -> AffectedRange:
    rule = way.rule
    return AffectedRange(rule.since.versions(), rule.until.versions() if rule.until else {}, rule.commit, rule.subject)


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, texts)))


@cache
def catalogue() -> tuple[Defect, ...]:
    """Return every known defect: open ones first, and among equals those with a CVE number."""
    found: dict[str, list[Deviation]] = {}
    for group in GROUPS:
        for row in defects.of_group(group):
            found.setdefault(str(row), []).append(row)
    every = [Defect(name, tuple(ways)) for name, ways in found.items()]
    return tuple(sorted(every, key=lambda each: (not each.open, not each.cves, each.id)))


def on(version: Version) -> tuple[Defect, ...]:
    """Return the defects that a kernel of that version should show."""
    return tuple(defect for defect in catalogue() if defect.shows_on(version))
