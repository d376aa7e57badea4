# SPDX-License-Identifier: GPL-2.0-only
"""The redirect matrix over all kernels: cells of the same shape for each, so that they can be laid side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.groups.kinds import MAPS
from conformance.groups.redirect.cases import LAYOUTS, MODES, PLAIN
from conformance.model import Verdict
from conformance.report import grid
from conformance.report.html.behaviour import Behaviour, Judged, together


@dataclass(frozen=True, slots=True)
class CellStyle:
    """How a cell looks on one kernel."""

    glyph: str
    words: str
    colour: str
    part: bool = False
    """Whether some of its cases were not run."""


UNSEEN = CellStyle("·", "not run", "unseen")


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """A pair of sockets in one mode, on every kernel."""

    anchor: str
    title: str
    signs: tuple[CellStyle, ...]
    """For each kernel."""
    behaviour: Behaviour

    def words(self, specs: Sequence[str]) -> str:
        """Say what every kernel shows; adjacent kernels that agree are grouped."""
        runs: list[str] = []
        for words, found in itertools.groupby(zip(specs, self.signs, strict=True), key=lambda pair: pair[1].words):
            kernels = [spec for spec, _ in found]
            runs.append(f"{kernels[0]}{f' to {kernels[-1]}' if len(kernels) > 1 else ''}: {words}")
        return "; ".join(runs)


@dataclass(frozen=True, slots=True)
class MatrixTable:
    """One mode, of one map type where the two differ on any kernel."""

    mode: str
    map: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[MatrixCell | None, ...]]
    extras: Mapping[str, tuple[MatrixCell | None, ...]]

    @property
    def title(self) -> str:
        """The title above the matrix."""
        return f"{self.mode}, {self.map}" if self.map else self.mode

    @property
    def headings(self) -> list[tuple[str, list[str]]]:
        """The families of the columns and, below each, its members."""
        families = itertools.groupby(self.columns, key=lambda column: column.rstrip("46").partition("_")[0])
        return [(family, list(members)) for family, members in families]

    @property
    def cells(self) -> list[MatrixCell]:
        """Every cell, row by row."""
        return [cell for row in (*self.rows.values(), *self.extras.values()) for cell in row if cell]


def matrices(cases: Mapping[str, Judged], slugs: Sequence[str]) -> list[MatrixTable]:
    """Return the matrices of all modes; a split that one kernel needs is made for all kernels."""
    marks = grid.marks(event for case in cases.values() for event in case.values())
    of_mode = [grid.by_mode(case[slug] for case in cases.values() if slug in case) for slug in slugs]
    found: list[MatrixTable] = []
    for mode in MODES:
        split = grid.common_split(mode, [of[mode] for of in of_mode])
        places: dict[grid.Place, list[Judged]] = {}
        for name in dict.fromkeys(case.id for of in of_mode for case in of[mode]):
            event = next(iter(cases[name].values()))
            places.setdefault(grid.place(event, split), []).append(cases[name])
        found += _mode(mode, split, places, marks, slugs)
    return found


def _mode(
    mode: str,
    split: grid.Split,
    places: Mapping[grid.Place, Sequence[Judged]],
    marks: Mapping[str, grid.Mark],
    slugs: Sequence[str],
) -> Iterator[MatrixTable]:
    total = grid.members(mode, split)
    columns = tuple(name for name in grid.names(split.columns) if any(column == name for _, _, column in places))
    rows = [name for name in grid.names(split.rows) if any(row == name for _, row, _ in places)]
    extras = [name for name in LAYOUTS if name != PLAIN and any(row == name for _, row, _ in places)]
    for map_ in MAPS if split.maps else ("",):

        def line(row: str, map_: str = map_) -> tuple[MatrixCell | None, ...]:
            return tuple(
                _cell((map_, row, column), mode, places[map_, row, column], total[map_, row, column], marks, slugs)
                if (map_, row, column) in places
                else None
                for column in columns
            )

        if any(place[0] == map_ for place in places):
            yield MatrixTable(mode, map_, columns, {row: line(row) for row in rows}, {row: line(row) for row in extras})


def _cell(
    place: grid.Place,
    mode: str,
    cases: Sequence[Judged],
    total: int,
    marks: Mapping[str, grid.Mark],
    slugs: Sequence[str],
) -> MatrixCell:
    map_, row, column = place
    pair = f"{column}, {row}" if row in LAYOUTS else f"{row} → {column}"
    anchor = "-".join(filter(None, ("cell", map_, mode, row, column)))
    title = f"{mode}, {map_}: {pair}" if map_ else f"{mode}: {pair}"
    signs = tuple(_cell_style(cases, slug, total, marks) for slug in slugs)
    return MatrixCell(anchor, title, signs, together(cases, slugs))


def _cell_style(cases: Sequence[Judged], slug: str, total: int, marks: Mapping[str, grid.Mark]) -> CellStyle:
    """Choose the style for a cell's cases: that of the first unexpected one, else of a known defect, else of any."""
    seen = [case[slug] for case in cases if slug in case]
    if not seen:
        return UNSEEN
    case = min(seen, key=lambda case: (case.verdict.expected, case.verdict is not Verdict.XFAIL))
    mark = marks[grid.outcome(case)]
    words = mark.words.removesuffix(", see below")
    share = sum(each.verdict is case.verdict for each in seen)
    some = f" in {share} of {len(seen)}" if share < len(seen) else ""
    absent = max(0, total - len(seen))
    words += f" ({absent} of {total} cases not run)" if absent else ""
    if not case.verdict.expected:
        return CellStyle(mark.glyph, f"UNEXPECTED{some}: {words}", "bad", part=bool(absent))
    if case.verdict is Verdict.XFAIL:
        return CellStyle(mark.glyph, f"known defect{some}: {words}", "known", part=bool(absent))
    return CellStyle(mark.glyph, words, mark.colour, part=bool(absent))
