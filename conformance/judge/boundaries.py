# SPDX-License-Identifier: GPL-2.0-only
"""The versions at which an expectation changes, and the real kernels on both sides of each.

`expect/proved.toml` has a `[[proof]]` row for each boundary that was seen on real kernels:

    commit, branch   the boundary: what changed, and on which branch (`mainline`, or `6.12`)
    before, after    the releases of two kernels, of which only the second has the change
    case             what was asked of both; each answered as the tables say
    date             when
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from common.errors import UsageError
from conformance.expect.rules import Bound, Rule
from conformance.groups import GROUPS
from conformance.groups.redirect import expectation
from conformance.judge import defects, steps
from conformance.model import MAINLINE, KernelFacts
from kernels.version import Version

PROVED: Final = Path(__file__).parents[1] / "expect" / "proved.toml"
SINCE: Final = Version.parse("6.12")
"""The boundaries after this version are those that should be proved: few kernels of older branches are available."""


_OLDEST: Final = Version.parse("5.10")
_TABLES: Final = ("socket", "attach", "insert", "redirect")


@dataclass(frozen=True, slots=True)
class BoundaryProof:
    """A boundary that was seen on real kernels."""

    commit: str
    branch: str
    before: str
    after: str
    case: str
    date: str


@dataclass(frozen=True, slots=True)
class Boundary:
    """The first version of a branch that has a change."""

    commit: str
    subject: str
    branch: str
    version: Version
    bound: Bound
    rows: tuple[str, ...]
    """The places of the rows with this boundary."""
    case: str
    """A case that one of them decides."""

    def pair(self, kernels: Sequence[Version]) -> tuple[Version, Version] | None:
        """Return the nearest kernels on both sides, the one without the change first; None if a side has none."""
        own = [each for each in kernels if self._judges(each)]
        without = [each for each in own if not self.bound.reached(each)]
        with_it = [each for each in own if self.bound.reached(each)]
        return (max(without), min(with_it)) if without and with_it else None

    def proof(self) -> BoundaryProof | None:
        """Return its proof on real kernels; None if it was only read in the history.

        A commit may have several boundaries on a branch, for example a fix and its revert. A proof is of the one that
        lies between its two kernels.
        """
        return next(filter(self._is_proved_by, proofs()), None)

    def _is_proved_by(self, proof: BoundaryProof) -> bool:
        if (proof.commit, proof.branch) != (self.commit, self.branch):
            return False
        before, after = (Version.parse(release.partition("+")[0]) for release in (proof.before, proof.after))
        return self.bound.reached(after) and not self.bound.reached(before)

    def _judges(self, version: Version) -> bool:
        if self.branch != MAINLINE:
            return version.branch == self.branch
        return version.branch not in self.bound.branches


@cache
def boundaries() -> tuple[Boundary, ...]:
    """Return every boundary after SINCE that a commit makes, in the order of the versions."""
    found: dict[tuple[str, str, str], Boundary] = {}
    for rule, case in _rules():
        for bound in filter(None, (rule.since, rule.until)):
            for branch, version in {MAINLINE: bound.mainline, **bound.branches}.items():
                if version <= SINCE or not rule.commit:
                    continue
                key = (rule.commit, branch, str(version))
                rows = found[key].rows if key in found else ()
                place = f"{rule.file}: {rule.id}"
                first = found[key].case if key in found else case
                places = tuple(dict.fromkeys((*rows, place)))
                found[key] = Boundary(rule.commit, rule.subject, branch, version, bound, places, first)
    return tuple(sorted(found.values(), key=lambda each: (each.version, each.commit, each.branch)))


@cache
def proofs() -> tuple[BoundaryProof, ...]:
    """Read the proofs; UsageError for a row that is wrong."""
    rows = tomllib.loads(PROVED.read_text(encoding="utf-8")).get("proof", [])
    try:
        return tuple(BoundaryProof(**row) for row in rows)
    except TypeError as error:
        hint = "conformance/judge/boundaries.py says what a row holds"
        raise UsageError(f"{PROVED.name}: {error}", hint=hint) from None


def _rules() -> Iterator[tuple[Rule, str]]:
    """Yield every row of every table with a case that it decides, or is about."""
    for name, group in GROUPS.items():
        if group.judge:
            yield from _decided(name)
        else:
            rules = {rule.id: rule for each in steps.table(name).rules.values() for rule in each}
            for rule in rules.values():
                yield rule, _first(name, rule)
        for row in defects.of_group(name):
            yield row.rule, row.case or _first(name, row.rule)


def _decided(group: str) -> Iterator[tuple[Rule, str]]:
    """Yield the rows of a group that has its own judge, with the cases that they decide."""
    decide = GROUPS[group].decided
    assert decide is not None, group
    rules = [rule for name in _TABLES for rule in expectation.table(name).rules]
    found: dict[tuple[str, str], tuple[Rule, str]] = {}
    for version in {rule.since.mainline for rule in rules if rule.since.mainline >= _OLDEST}:
        for case in GROUPS[group].cases():
            for _, rule in decide(case, KernelFacts(version, {})):
                found.setdefault((rule.file, rule.id), (rule, case.id))
    yield from found.values()


def _first(group: str, rule: Rule) -> str:
    return next(case.id for case in GROUPS[group].cases() if rule.matches(case.params))
