# SPDX-License-Identifier: GPL-2.0-only
"""The CONFIG symbols that a case needs, and the cases that a kernel would not survive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from conformance.expect.rules import Bound, bad, check_keys, name_of, read_bound, read_match, read_rows
from conformance.groups import cases
from conformance.groups.kinds import FAMILIES, KINDS
from conformance.groups.redirect.cases import LAYOUTS
from conformance.judge.defects import of_group
from conformance.model import Case, Ground, KernelFacts, Source
from kernels.version import Version

NEEDS: Final = Path(__file__).with_name("needs.toml")
_SYMBOL: Final = frozenset({"id", "symbol", "disables"})
_HAZARD: Final = frozenset({"id", "hazard", "defect"})
_LACK: Final = frozenset({"id", "lack", "until"})
_OPTIONAL: Final = frozenset({"since", "until"})

_THERE: Final = ("y", "m")
"""The values of a CONFIG symbol that is set."""
_NOTHING: Final[Mapping[str, str]] = {}
_KINDS: Final = ("in", "out", "kind", "target")
"""The parameters that are kinds of sockets."""


@dataclass(frozen=True, slots=True)
class Need:
    """One row of needs.toml."""

    id: str
    file: str
    symbol: str
    """The CONFIG symbol; empty for a hazard or a lack."""
    disables: str
    lack: str
    """The feature that the kernel does not have yet."""
    hazard: str
    """What would happen to the machine."""
    defect: str
    """The known defect behind the hazard, `group/id`."""
    kinds: frozenset[str] | None
    layouts: frozenset[str] | None
    match: Mapping[str, frozenset[str]]
    """`group` and parameters."""
    since: Bound | None
    until: Bound | None

    def concerns(self, case: Case, version: Version) -> bool:
        """Whether the case needs the symbol on this kernel."""
        begun = self.since is None or self.since.reached(version)
        return begun and not (self.until and self.until.reached(version)) and self.matches(case)

    def matches(self, case: Case) -> bool:
        """Whether the case needs the symbol on any kernel."""
        params = case.params
        return (
            (self.kinds is None or not self.kinds.isdisjoint(params.get(name) for name in _KINDS))
            and (self.layouts is None or params.get("layout") in self.layouts)
            and all({"group": case.group, **params}.get(name) in values for name, values in self.match.items())
        )

    def as_ground(self) -> Ground:
        """Return the row as the ground of a verdict."""
        return Ground(
            file=self.file,
            row=self.id,
            source=Source.NEED,
            reason=self.hazard or self.lack or f"CONFIG_{self.symbol} is not set, which disables {self.disables}",
            since=self.since.versions() if self.since else {},
            until=self.until.versions() if self.until else {},
        )


def unmet(case: Case, facts: KernelFacts, lacking: Mapping[str, str] = _NOTHING) -> Ground | None:
    """Return why the case must not be asked: a CONFIG symbol is missing, or the kernel hangs; None if it may.

    `lacking` has a reason for each symbol that the guest does not support in spite of the configuration.
    """
    for need in load(NEEDS):
        if need.symbol in lacking and need.concerns(case, facts.version):
            return replace(need.as_ground(), reason=f"{lacking[need.symbol]}, which disables {need.disables}")
        missing = bool(need.symbol and facts.config) and facts.config.get(need.symbol) not in _THERE
        if (missing or need.lack or need.hazard) and need.concerns(case, facts.version):
            if need.hazard and case.id in _shown_by(need.defect):
                continue
            return need.as_ground()
    return None


def disabled(asked: Iterable[Case], facts: KernelFacts) -> dict[str, int]:
    """Return a reason for each CONFIG symbol that is missing, and how many of the cases need it; each counts once."""
    rest, found = list(asked), dict[str, int]()
    for need in load(NEEDS):
        if need.symbol and facts.config and facts.config.get(need.symbol) not in _THERE:
            kept = [case for case in rest if not need.concerns(case, facts.version)]
            if len(kept) < len(rest):
                reason = need.as_ground().reason
                found[reason] = found.get(reason, 0) + len(rest) - len(kept)
            rest = kept
    return found


@cache
def _shown_by(defect: str) -> frozenset[str]:
    """Return the cases that show a known defect best: they are asked although they kill the machine."""
    group, _, name = defect.partition("/")
    return frozenset(row.case for row in of_group(group) if str(row) == name)


def needs_of(case: Case) -> tuple[Need, ...]:
    """Return the rows about this case on any kernel."""
    return tuple(need for need in load(NEEDS) if need.matches(case))


def symbols_needed() -> tuple[str, ...]:
    """List the CONFIG symbols that some case needs."""
    needs = load(NEEDS)
    return tuple(dict.fromkeys(need.symbol for need in needs if need.symbol))


@cache
def load(path: Path) -> tuple[Need, ...]:
    """Read a file of needs; UsageError names file and row of what is wrong with it."""
    return tuple(_need(where, row, name_of(path)) for where, row in read_rows(path, "need"))


def _need(where: str, row: dict[str, Any], file: str) -> Need:
    lists = {key: row.pop(key, None) for key in ("kinds", "layouts", "match")}
    check_keys(where, row, _HAZARD if "hazard" in row else _LACK if "lack" in row else _SYMBOL, _OPTIONAL)
    return Need(
        id=row["id"],
        file=file,
        symbol=row.get("symbol", ""),
        disables=row.get("disables", ""),
        lack=row.get("lack", ""),
        hazard=row.get("hazard", ""),
        defect=row.get("defect", ""),
        kinds=_names(where, "kinds", lists["kinds"], {name: (name,) for name in KINDS} | dict(FAMILIES)),
        layouts=_names(where, "layouts", lists["layouts"], {name: (name,) for name in LAYOUTS}),
        match=read_match(where, lists["match"], _universe(), FAMILIES) if lists["match"] is not None else {},
        since=read_bound(where, "since", row["since"]) if "since" in row else None,
        until=read_bound(where, "until", row["until"]) if "until" in row else None,
    )


@cache
def _universe() -> list[dict[str, str]]:
    return [{"group": case.group, **case.params} for case in cases()]


def _names(where: str, key: str, values: Any, known: dict[str, tuple[str, ...]]) -> frozenset[str] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not values:
        raise bad(where, f"{key!r} is a list, not {values!r}")
    for value in values:
        if value not in known:
            raise bad(where, f"{key!r} has the unknown value {value!r}")
    return frozenset(name for value in values for name in known[value])
