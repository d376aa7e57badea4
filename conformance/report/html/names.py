# SPDX-License-Identifier: GPL-2.0-only
"""Names in the page: stable anchors, safe text, short labels for sets of cases."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from common.foreign import visible

_FEW = 3
"""Values that a label may except, as in `all but`."""
_CITED = re.compile(
    r'\b(?P<commit>[0-9a-f]{12,40})(?= "|[,)])|(?P<address>https://(?:[a-z0-9-]+\.)*kernel\.org/[\w./@+%~?=&-]*\w)',
    re.ASCII,
)
"""A cited commit: before its subject, or in a list of facts; or an address at kernel.org."""
_MANY = 10
"""Values that a label names at most."""


def cited(text: str) -> Markup:
    """Return text, escaped, in which each commit and each address at kernel.org is a link."""
    pieces, at = [], 0
    for found in _CITED.finditer(text):
        address = found["address"] or f"https://git.kernel.org/linus/{found['commit']}"
        link = Markup('<a href="{}" rel="noreferrer">{}</a>').format(address, found[0])
        pieces += [escape(visible(text[at : found.start()])), link]
        at = found.end()
    return Markup("").join([*pieces, escape(visible(text[at:]))])


class Anchors:
    """The ids of cases in one page: the case's own, `group/name`, and `group/name@kernel` on a kernel.

    They have a `/`, which no other id of the page has. An id that HTML does not allow is changed, and stays unique.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def of(self, case: str, slug: str = "") -> str:
        """Return the anchor of a case, the same each time."""
        if (case, slug) not in self._given:
            wanted = re.sub(r"[^\w./@+:-]", "_", f"{case}@{slug}" if slug else case, flags=re.ASCII)
            wanted = wanted if "/" in wanted else f"case/{wanted}"
            number, free = 1, wanted
            while free in self._taken:
                number += 1
                free = f"{wanted}~{number}"
            self._taken.add(free)
            self._given[case, slug] = free
        return self._given[case, slug]


class Reasons:
    """Sentences of reasons; the page has each once and refers to it by number.

    Hundreds of reasons are made of the same few sentences: repeated in full they would be half of a large page.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def refer(self, reason: str) -> list[int]:
        """Return the numbers of its sentences, which are from 1 on."""
        return [self._numbers.setdefault(sentence, len(self._numbers) + 1) for sentence in reason.split("; ")]

    @property
    def sentences(self) -> list[str]:
        """Every sentence referred to so far, in the order of their numbers."""
        return list(self._numbers)


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a label about one parameter."""

    words: str
    full: bool
    """It covers all values, so it can be left out."""


def labels(chosen: Iterable[Mapping[str, str]], among: Mapping[str, Collection[str]]) -> list[list[Part]]:
    """Describe cases by their parameters, in few lines; `among` has all values of each varying parameter.

    Each line stands for all combinations of the values that it names.
    """
    order = {name: {value: at for at, value in enumerate(values)} for name, values in among.items()}
    items = {tuple(frozenset([params[name]]) for name in among) for params in chosen}
    for at in range(len(among)):
        joined: dict[tuple[frozenset[str], ...], frozenset[str]] = {}
        for item in items:
            rest = (*item[:at], *item[at + 1 :])
            joined[rest] = joined.get(rest, frozenset()) | item[at]
        items = {(*rest[:at], values, *rest[at:]) for rest, values in joined.items()}
    ranked = sorted(
        items, key=lambda item: [sorted(map(order[name].__getitem__, v)) for name, v in zip(among, item, strict=True)]
    )
    return [
        [_part(name, values, list(order[name])) for name, values in zip(among, item, strict=True)] for item in ranked
    ]


def _part(name: str, values: frozenset[str], every: Sequence[str]) -> Part:
    others = [value for value in every if value not in values]
    if not others:
        return Part(f"any {name}", full=True)
    if len(others) <= _FEW and len(others) < len(values):
        return Part(f"any {name} but {', '.join(others)}", full=False)
    named = [value for value in every if value in values]
    more = f" and {len(named) - _MANY} more" if len(named) > _MANY + 1 else ""
    return Part(", ".join(named[:_MANY] if more else named) + more, full=False)
