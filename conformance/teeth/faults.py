# SPDX-License-Identifier: GPL-2.0-only
"""The faults as data, and the kernel that has them.

`faults.toml` has a `[[fault]]` row for each:

    number     what chooses it: `sockmap_fault=NUMBER` on the kernel's command line, or planted.py in a kernel that runs
    title      what the kernel does wrong
    function   the function that the patch changes, and `file`, where it is
    kind       one of KINDS
    groups     the groups of cases that should find it, the likeliest first
    commit     the commit that fixed this in mainline, if the fault brings an old bug back; optional
    survives   why no case can find it; optional

`faults.patch` has their code for the kernel of SOURCE, and `functions.toml` the functions that they should touch.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from common.errors import UsageError
from conformance.expect.rules import bad
from conformance.groups import GROUPS

HERE: Final = Path(__file__).parent
SOURCE: Final = "source:7.3.4"
KINDS: Final = frozenset({
    "early free", "lost wakeup", "missing charge", "missing check", "missing lock", "missing uncharge",
    "one byte short", "order reversed", "range", "reference leaked", "stale entry", "wrong errno", "wrong flag",
    "wrong flag test", "wrong state",
})  # fmt: skip
_TEXTS: Final = ("title", "function", "file", "kind")
_OPTIONAL: Final = ("commit", "survives")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    number: int
    title: str
    function: str
    file: str
    """Below the kernel's source tree."""
    kind: str
    groups: tuple[str, ...]
    commit: str = ""
    survives: str = ""

    @property
    def name(self) -> str:
        """What a glob is held against: `17 net/core/skmsg.c sk_psock_init`."""
        return f"{self.number} {self.file} {self.function}"


NONE: Final = Fault(0, "no fault", "", "", "", ())
"""The same kernel without a fault: what is unexpected there finds none."""


def kernel() -> str:
    """Return the spec of the kernel that has the faults."""
    return f"{SOURCE},patch={HERE / 'faults.patch'},config={HERE / 'small.config'}"


@cache
def faults() -> tuple[Fault, ...]:
    """Return every fault by its number; UsageError for a row that is wrong."""
    return load(HERE / "faults.toml")


def load(path: Path) -> tuple[Fault, ...]:
    """Read a file of faults."""
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("fault", [])
    found = tuple(_fault(f"{path.name}, row {place}", row) for place, row in enumerate(rows, 1))
    numbers = [fault.number for fault in found]
    if numbers != sorted(set(numbers)):
        raise UsageError(f"{path.name}: the numbers do not ascend", hint="each fault has a number of its own")
    return found


def chosen(patterns: Sequence[str]) -> tuple[Fault, ...]:
    """Return the faults of these numbers or globs; UsageError for one that means none."""
    if not patterns:
        return faults()
    found: dict[int, Fault] = {}
    for pattern in patterns:
        named = [fault for fault in faults() if _named(fault, pattern)]
        if not named:
            raise UsageError(
                f"--fault {pattern} names no fault", hint="a number, or a glob of functions or files: 'sk_psock_*'"
            )
        found |= {fault.number: fault for fault in named}
    return tuple(found[number] for number in sorted(found))


def untouched() -> tuple[tuple[str, str], ...]:
    """Return file and name of the functions that no fault touches."""
    listed = tomllib.loads((HERE / "functions.toml").read_text(encoding="utf-8"))
    touched = {(fault.file, fault.function) for fault in faults()}
    every = ((file, function) for file, table in listed.items() for function in table["functions"])
    return tuple(each for each in every if each not in touched)


def _named(fault: Fault, pattern: str) -> bool:
    if pattern.isdecimal():
        return fault.number == int(pattern)
    return any(fnmatch.fnmatchcase(text, pattern) for text in (fault.function, fault.file))


def _fault(where: str, row: dict[str, Any]) -> Fault:
    strange = sorted(row.keys() - {"number", "groups", *_TEXTS, *_OPTIONAL})
    if strange:
        raise bad(where, f"unknown key {strange[0]!r}")
    for key in _TEXTS:
        if not isinstance(row.get(key), str) or not row[key]:
            raise bad(where, f"lacks {key!r}")
    if type(row.get("number")) is not int or row["number"] < 1:
        raise bad(where, f"'number' is a number from 1 on, not {row.get('number')!r}")
    groups = row.get("groups")
    if not isinstance(groups, list) or not groups or not all(group in GROUPS for group in groups):
        raise bad(where, f"'groups' is a list of groups of cases, not {groups!r}")
    if row["kind"] not in KINDS:
        raise bad(where, f"'kind' is one of {', '.join(sorted(KINDS))}, not {row['kind']!r}")
    return Fault(**{**row, "groups": tuple(groups)})
