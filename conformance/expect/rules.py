# SPDX-License-Identifier: GPL-2.0-only
"""Tables of rules by kernel version: the keys of a TOML row, and a strict loader.

A file is a list of `[[rule]]` rows:

    id       unique in its file
    match    parameter -> list of values or families (`tcp` is every TCP kind); a parameter left out matches all
    since    { mainline = "5.13", "5.10" = "5.10.222" }: the first version that behaves so; stable branches that got
             it by backport are not compared with mainline
    until    the same for the first version that no longer does; optional
    outcome  what happens, a name the table knows
    commit   the commit that made it so; `subject`, its title, if known
    reason   one line
    ground   why that may be expected: one of GROUNDS. A row of promises that names none is on `version` if it cites a
             commit, else on the ground of its group (`contract` unless conformance/groups/__init__.py says otherwise)

The last row that matches and is in force wins, so a file reads from the general to the special and from old to new.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from pathlib import Path
from typing import Any, Final

from common.errors import UsageError
from conformance.model import MAINLINE, Ground, Source
from kernels.version import Version

Params = Mapping[str, str]

_HINT = "conformance/expect/rules.py says what a row may hold"
_REQUIRED = frozenset({"id", "match", "since", "outcome", "commit", "reason"})
_OPTIONAL = frozenset({"until", "subject", "ground"})
GROUNDS: Final = ("control", "conservation", "contract", "version")
CONTROL: Final = "control"
CONTRACT: Final = "contract"
_VERSION: Final = "version"
_PACKAGE: Final = Path(__file__).parent.parent
_ID = re.compile(r"[a-z0-9_.-]+")
_COMMIT = re.compile(r"[0-9a-f]{12,40}|")
_BRANCH = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Bound:
    """A change and the versions that have it."""

    mainline: Version
    branches: Mapping[str, Version]
    """The first version of each stable branch it was backported to; such a branch is not compared with mainline."""

    def reached(self, version: Version) -> bool:
        """Whether this kernel has the change."""
        return version >= self.first(version)

    def first(self, version: Version) -> Version:
        """Return the first version with the change, on the branch of `version`."""
        return self.branches.get(version.branch, self.mainline)

    def versions(self) -> dict[str, str]:
        """Return the versions as in a row."""
        return {MAINLINE: str(self.mainline), **{branch: str(first) for branch, first in self.branches.items()}}


@dataclass(frozen=True, slots=True)
class Rule:
    """One row."""

    id: str
    match: Mapping[str, frozenset[str]]
    since: Bound
    until: Bound | None
    outcome: str
    commit: str
    subject: str
    reason: str
    file: str = ""
    """Its path relative to the package `conformance`; for another file, its name."""
    ground: str = ""
    """One of GROUNDS; empty in a row that is no promise."""

    def matches(self, params: Params) -> bool:
        """Whether the row matches a case with these parameters."""
        # Called for hundreds of rows per case: a loop takes half the time of all() and a generator.
        for name, values in self.match.items():  # noqa: SIM110
            if params.get(name) not in values:
                return False
        return True

    def in_force(self, version: Version) -> bool:
        """Whether the row is in force on this kernel."""
        return self.since.reached(version) and not (self.until and self.until.reached(version))

    def because(self, version: Version) -> str:
        """Return the reason, with commit and first version on the branch of `version`."""
        source = f'{self.commit} "{self.subject}"' if self.subject else self.commit
        return f"{self.reason} ({source}{', ' if source else ''}since {self.since.first(version)})"

    def as_ground(self, steps: Iterable[str], source: Source = Source.PROMISE, link: str = "") -> Ground:
        """Return the row as the ground for these steps."""
        return Ground(
            file=self.file,
            row=self.id,
            source=source,
            ground=self.ground,
            reason=self.reason,
            commit=self.commit,
            subject=self.subject,
            since=self.since.versions(),
            until=self.until.versions() if self.until else {},
            link=link,
            steps=tuple(steps),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RuleTable:
    """The rows of one file."""

    name: str
    rules: tuple[Rule, ...]

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        universe: Sequence[Params],
        outcomes: Collection[str],
        families: Mapping[str, Sequence[str]],
    ) -> RuleTable:
        """Read a file; UsageError names file and row when a row is malformed or matches nothing in `universe`."""
        rows = read_rows(path, "rule")
        file = name_of(path)
        rules = tuple(read_rule(where, row, universe, outcomes, families, file, CONTRACT) for where, row in rows)
        return cls(path.name, rules)

    def find(self, params: Params, version: Version) -> Rule | None:
        """Return the deciding row; None if no row matches on this kernel."""
        return next((rule for rule in _in_force(self, version) if rule.matches(params)), None)


@lru_cache(maxsize=256)
def _in_force(table: RuleTable, version: Version) -> tuple[Rule, ...]:
    """List the rows in force, the deciding one first."""
    return tuple(rule for rule in reversed(table.rules) if rule.in_force(version))


def grounds_of(rules: Iterable[tuple[str, Rule]]) -> tuple[Ground, ...]:
    """Return the deciding rows in order, each once with all its steps."""
    found: dict[tuple[str, str], tuple[Rule, list[str]]] = {}
    for step, rule in rules:
        found.setdefault((rule.file, rule.id), (rule, []))[1].append(step)
    return tuple(rule.as_ground(steps) for rule, steps in found.values())


def name_of(path: Path) -> str:
    """Name a file of rows for a reader: relative to the package, or by its name if it is from elsewhere."""
    return path.relative_to(_PACKAGE).as_posix() if path.is_relative_to(_PACKAGE) else path.name


def read_rows(path: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each `[[key]]` row of a file with its name for errors; UsageError for anything else in the file."""
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{shown(path)}: not TOML: {error}", hint=_HINT) from error
    for unknown in sorted(document.keys() - {key}):
        raise UsageError(f"{shown(path)}: unknown key {unknown!r}", hint=_HINT)
    seen: set[str] = set()
    rows = document.get(key, [])
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        name = row.get("id") if isinstance(row, dict) else None
        where = f"{shown(path)}, row {number}" + (f" ({name})" if name else "")
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise bad(where, f"needs an id of [a-z0-9_.-], not {name!r}")
        if name in seen:
            raise bad(where, "its id is taken by a row above")
        seen.add(name)
        yield where, row


def shown(path: Path) -> str:
    """Return the path of a table, with the folder of its group."""
    return f"{path.parent.name}/{path.name}" if path.parent.parent.name == "groups" else path.name


def bad(where: str, what: str) -> UsageError:
    """Return the error for a row."""
    return UsageError(f"{where}: {what}", hint=_HINT)


def check_keys(where: str, row: Mapping[str, Any], required: frozenset[str], optional: frozenset[str]) -> None:
    """Refuse a row with a missing or an unknown key."""
    for missing in sorted(required - row.keys()):
        raise bad(where, f"lacks {missing!r}")
    for unknown in sorted(row.keys() - required - optional):
        raise bad(where, f"unknown key {unknown!r}")
    for key in sorted(row.keys() - {"match", "since", "until"}):
        if not isinstance(row[key], str):
            raise bad(where, f"{key!r} is text, not {row[key]!r}")


def read_bound(where: str, key: str, value: Any) -> Bound:
    """Read a `since` or an `until`."""
    if not isinstance(value, dict) or "mainline" not in value:
        raise bad(where, f'{key!r} is a table like {{ mainline = "5.13" }}, not {value!r}')
    versions: dict[str, Version] = {}
    for branch, text in value.items():
        try:
            versions[branch] = Version.parse(text)
        except (ValueError, TypeError):
            raise bad(where, f"{key!r} of {branch}: {text!r} is not a kernel version") from None
        if branch != "mainline" and (not _BRANCH.fullmatch(branch) or versions[branch].branch != branch):
            raise bad(where, f"{key!r}: {text} is not on the branch {branch}")
    return Bound(versions.pop("mainline"), versions)


def read_match(
    where: str, match: Any, universe: Sequence[Params], families: Mapping[str, Sequence[str]]
) -> dict[str, frozenset[str]]:
    """Read a `match`, families expanded; a value that no case has is an error, and so is a row that matches no case."""
    if not isinstance(match, dict):
        raise bad(where, f"'match' is a table, not {match!r}")
    index = _index(_Identified(universe))
    read: dict[str, frozenset[str]] = {}
    fitting = (1 << len(universe)) - 1
    for name, values in match.items():
        known = index.get(name)
        if not known:
            raise bad(where, f"no case has a parameter {name!r}")
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise bad(where, f"{name!r} is a list of values, not {values!r}")
        read[name] = frozenset(each for value in values for each in families.get(value, (value,)))
        for stranger in sorted(read[name] - known.keys()):
            raise bad(where, f"{name!r} has the unknown value {stranger!r}")
        fitting &= reduce(or_, (known[value] for value in read[name]))
    if not fitting:
        raise bad(where, "matches no case")
    return read


@dataclass(frozen=True, slots=True, eq=False)
class _Identified:
    """Cases as a key of a cache: compared by identity, which is faster than comparing thousands of values."""

    cases: Sequence[Params]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identified) and self.cases is other.cases

    def __hash__(self) -> int:
        return id(self.cases)


@lru_cache(maxsize=32)
def _index(universe: _Identified) -> Mapping[str, Mapping[str, int]]:
    """Return, for each parameter and value, the cases that have it: bit N is set for the case number N."""
    found: dict[str, dict[str, int]] = {}
    for number, params in enumerate(universe.cases):
        bit = 1 << number
        for name, value in params.items():
            values = found.setdefault(name, {})
            values[value] = values.get(value, 0) | bit
    return found


def read_rule(
    where: str,
    row: Mapping[str, Any],
    universe: Sequence[Params],
    outcomes: Collection[str] | None,
    families: Mapping[str, Sequence[str]],
    file: str = "",
    ground: str = "",
) -> Rule:
    """Read a row; with `outcomes` None any outcome is valid.

    `ground` is the default for a promise without a commit; empty for other rows.
    """
    check_keys(where, row, _REQUIRED, _OPTIONAL)
    if not row["outcome"] or (outcomes is not None and row["outcome"] not in outcomes):
        raise bad(where, f"unknown outcome {row['outcome']!r}")
    if not _COMMIT.fullmatch(row["commit"]):
        raise bad(where, f"'commit' is 12 to 40 hex digits, not {row['commit']!r}")
    if row.get("ground", GROUNDS[0]) not in GROUNDS:
        raise bad(where, f"'ground' is one of {', '.join(GROUNDS)}, not {row['ground']!r}")
    since = read_bound(where, "since", row["since"])
    until = read_bound(where, "until", row["until"]) if "until" in row else None
    if until and until.mainline <= since.mainline:
        raise bad(where, f"ends ({until.mainline}) before it begins ({since.mainline})")
    return Rule(
        id=row["id"],
        match=read_match(where, row["match"], universe, families),
        since=since,
        until=until,
        outcome=row["outcome"],
        commit=row["commit"],
        subject=row.get("subject", ""),
        reason=row["reason"],
        file=file,
        ground=row.get("ground", ground and (_VERSION if row["commit"] else ground)),
    )
