# SPDX-License-Identifier: GPL-2.0-only
"""`--quick`: run as few cases as decide every row of the tables for a kernel, for an answer in seconds.

A case decides the rows behind its answers, step by step, and each match of a known defect that it shows,
except a hang that shows by chance. In groups with cheap cases it also decides every value of its parameters,
so that no kind of socket and no way out is left out. A greedy choice takes the case that adds most for its time
until nothing is left to add; then it drops the cases that the later ones have made superfluous. The choice depends on
cases, tables and kernel only, and is kept in the cache.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common import cache
from common.errors import ConformError
from conformance.groups import GROUPS, cases
from conformance.judge import steps
from conformance.judge.defects import deviations
from conformance.judge.lists import Lists
from conformance.judge.needs import unmet
from conformance.model import Case, KernelFacts, Verdict

_PACKAGE: Final = Path(__file__).resolve().parent.parent

Decided = tuple[str, ...]
"""One thing to decide: a row with its file, its id and the step, or a value of a parameter."""

_ROW: Final = "row"
_VALUE: Final = "value"

_COST: Final[Mapping[str, float]] = {
    "leaks": 256,
    "tls": 130,
    "survive": 120,
    "update_from_bpf": 80,
    "stream": 68,
    "teardown": 65,
    "enrol": 64,
    "pressure": 56,
    "steer": 41,
    "readiness": 40,
    "listen": 37,
    "ancillary": 34,
    "shape": 33,
    "redirect": 31,
    "attach": 26,
    "insert": 23,
}
"""Milliseconds that a case of a group takes on the reference machine, by the median."""
_USUAL: Final = 60.0
_CHEAP: Final = 70.0
"""Milliseconds: only groups below this are asked every value of every parameter, which doubles the cases of others."""
_NEW_CLONE: Final = 300.0
"""Milliseconds for the next clone, after a known defect has killed one."""


@dataclass(frozen=True, slots=True)
class QuickSelection:
    """The cases that `--quick` chose."""

    ids: frozenset[str]
    among: int
    """The number of cases to choose from."""
    rows: int
    """The number of rows they decide: all that any case decides on this kernel."""

    def counts(self) -> dict[str, int]:
        """Return it as the event log has it; see `RunEvent.quick`."""
        return {"chose": len(self.ids), "among": self.among, "rows": self.rows}


def choices(kernels: Mapping[str, KernelFacts], lists: Lists, *, stress: bool) -> dict[str, QuickSelection]:
    """Choose for each kernel, by its slug, among the cases that the lists let it be asked."""
    asked = [case for case in cases() if lists.selects(case.id) and (stress or not GROUPS[case.group].stress)]
    return {
        slug: quick_choice([case for case in asked if lists.refusal(case.id, facts.version) is None], facts)
        for slug, facts in kernels.items()
    }


def quick_choice(among: Sequence[Case], facts: KernelFacts) -> QuickSelection:
    """Choose cases that decide every row and value that any of `among` decides on this kernel, none superfluous."""
    path = cache.root() / "quick" / f"{_key(among, facts)}.json"
    with suppress(ConformError, OSError, ValueError, LookupError, TypeError):
        kept = json.loads(path.read_bytes())
        return QuickSelection(frozenset(kept["ids"]), int(kept["among"]), int(kept["rows"]))
    choice = chosen(among, facts)
    with suppress(ConformError, OSError):
        data = {"ids": sorted(choice.ids), "among": choice.among, "rows": choice.rows}
        cache.write(path, json.dumps(data).encode())
    return choice


def chosen(among: Sequence[Case], facts: KernelFacts) -> QuickSelection:
    """Choose; see `quick_choice`, which remembers."""
    decided = {case.id: decided_by(case, facts) for case in among}
    costs = {case.id: _cost(case, facts) for case in among}
    ids = _without_superfluous(_greedy(decided, costs), decided, costs)
    rows = {each[1:3] for every in decided.values() for each in every if each[0] == _ROW}
    return QuickSelection(frozenset(ids), len(among), len(rows))


def decided_by(case: Case, facts: KernelFacts) -> frozenset[Decided]:
    """Return what a case decides on this kernel; of a case that is not asked, the row that says why."""
    need = unmet(case, facts)
    if need is not None:
        return frozenset({(_ROW, need.file, need.row, "")})
    return frozenset(_decided(case, facts))


def _decided(case: Case, facts: KernelFacts) -> Iterator[Decided]:
    if _COST.get(case.group, _USUAL) < _CHEAP:
        yield from ((_VALUE, case.group, name, value) for name, value in case.params.items())
    for row in deviations(case, facts.version):
        if row.racy and row.verdict is Verdict.HANG:
            # One try proves nothing about a hang that shows by chance, and may cost more than all other cases.
            continue
        yield _ROW, row.rule.file, row.rule.id, str(sorted((name, *sorted(of)) for name, of in row.rule.match.items()))
    own = GROUPS[case.group].decided
    rows = own(case, facts) if own else steps.table(case.group).decided(case.params, facts.version).items()
    for step, rule in rows:
        yield _ROW, rule.file, rule.id, step


def _cost(case: Case, facts: KernelFacts) -> float:
    """Return the milliseconds a case takes: one that is known to hang takes its whole deadline."""
    cost = _COST.get(case.group, _USUAL)
    for row in deviations(case, facts.version):
        cost += _NEW_CLONE * row.harmful + 1000 * case.deadline * (row.verdict is Verdict.HANG)
    return cost


def _greedy(decided: Mapping[str, frozenset[Decided]], costs: Mapping[str, float]) -> list[str]:
    """Return cases that decide everything, the most for its time first; of equally good ones the first listed."""
    left = set().union(*decided.values())
    order = {name: number for number, name in enumerate(decided)}
    # The gain of a case only shrinks, so the former best case with an unchanged gain is still the best.
    heap = [(-len(found) / costs[name], order[name], name) for name, found in decided.items()]
    heapq.heapify(heap)
    taken = []
    while left:
        _, number, name = heapq.heappop(heap)
        worth = -len(decided[name] & left) / costs[name]
        if heap and (worth, number) > heap[0][:2]:
            heapq.heappush(heap, (worth, number, name))
            continue
        taken.append(name)
        left -= decided[name]
    return taken


def _without_superfluous(
    taken: Sequence[str], decided: Mapping[str, frozenset[Decided]], costs: Mapping[str, float]
) -> list[str]:
    """Drop the cases whose rows and values the others decide as well, the most expensive first."""
    times = Counter(each for name in taken for each in decided[name])
    kept = []
    for name in sorted(taken, key=lambda name: (-costs[name], name)):
        if all(times[each] > 1 for each in decided[name]):
            times.subtract(decided[name])
        else:
            kept.append(name)
    return kept


def _key(among: Sequence[Case], facts: KernelFacts) -> str:
    """Return a key of everything that the choice depends on."""
    made_of = hashlib.sha256()
    folders = [_PACKAGE / name for name in ("expect", "groups", "judge")]
    files = (path for folder in folders for kind in ("*.toml", "*.py") for path in folder.rglob(kind))
    for path in sorted((*files, Path(__file__))):
        made_of.update(path.read_bytes())
    listed = [(case.id, sorted(case.params.items()), case.deadline) for case in among]
    made_of.update(repr((listed, str(facts.version), sorted(facts.config.items()))).encode())
    return made_of.hexdigest()[:32]
