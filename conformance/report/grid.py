# SPDX-License-Identifier: GPL-2.0-only
"""The redirect matrix as grids: rows IN, columns OUT, one grid for each mode, as small as the observations allow."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from conformance.groups import GROUPS
from conformance.groups.kinds import KINDS, MAPS
from conformance.groups.redirect.cases import LAYOUTS, MODES, PLAIN, redirect_cases
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.style import WIDTH, Style

_LABEL = max(len(kind) for kind in KINDS)
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Mark:
    """How an outcome is drawn, and its words."""

    glyph: str
    ascii: str
    words: str
    colour: str = ""


_UNSEEN = Mark("·", ".", "", "faint")
# By the outcome's name (see groups/redirect/outcomes.py) without its errno, and by the verdict where there is none.
_MARKS = {
    "delivered": Mark("●", "+", "delivered", "good"),
    "circulates": Mark("↻", "@", "circulated, then delivered", "good"),
    "native": Mark("─", "-", "program not run: native path", "faint"),
    "refused": Mark("⊘", "E", "refused: {errno}", "refused"),
    "refused-without-program": Mark("⊗", "R", "refused without running the program", "refused"),
    "dropped": Mark("○", "o", "dropped silently", "dropped"),
    "not-inserted": Mark("×", "x", "cannot be inserted: {errno}", "faint"),  # noqa: RUF001
    "not-attached": Mark("∤", "/", "cannot be attached: {errno}", "faint"),
    "no-socket": Mark("∅", "0", "no such socket: {errno}", "faint"),
    "skip": Mark("s", "s", "skipped", "faint"),
    "other": Mark("?", "?", "something else, see below", "bad"),
    "splat": Mark("W", "W", "kernel warning", "bad"),
    "panic": Mark("P", "P", "kernel panic", "bad"),
    "hang": Mark("H", "H", "hung", "bad"),
    "lost": Mark("L", "L", "machine lost", "bad"),
    "infra": Mark("I", "I", "could not be judged", "bad"),
}
_SPARE = "abcdefghijklmnpqrtuvyz"
_WITHOUT_OUTCOME = (Verdict.SKIP, Verdict.SPLAT, Verdict.PANIC, Verdict.HANG, Verdict.LOST, Verdict.INFRA)


@dataclass(frozen=True, slots=True)
class Cell:
    """The common outcome of one or more cases; empty if none was seen."""

    outcome: str = ""
    unexpected: bool = False
    known: bool = False
    """A known defect (xfail)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """One mode, of one map type where the two differ."""

    mode: str
    map: str
    """Empty where both map types show the same."""
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]
    """By IN."""
    extras: Mapping[str, tuple[Cell, ...]]
    """By layout; IN is of the column's kind."""

    @property
    def title(self) -> str:
        """The title above the grid."""
        return f"{self.mode}, {self.map}" if self.map else self.mode

    @property
    def width(self) -> int:
        """In terminal columns."""
        return _LABEL + 4 * len(self.columns)


Place = tuple[str, str, str]
"""Map type (or nothing), row, column."""


@dataclass(frozen=True, slots=True)
class Split:
    """What the grid distinguishes: IN families, OUT families, map types."""

    rows: frozenset[str]
    columns: frozenset[str]
    maps: bool

    def place(self, params: Mapping[str, str]) -> Place:
        """Return where a case belongs."""
        layout, kind = params["layout"], params["in"]
        row = _name(kind, self.rows) if layout == PLAIN else layout
        return params["map"] if self.maps else "", row, _name(params.get("out") or kind, self.columns)


_FAMILIES = [frozenset(each) for size in range(3) for each in itertools.combinations(("tcp", "udp"), size)]
_SPLITS = sorted(
    (Split(*each) for each in itertools.product(_FAMILIES, _FAMILIES, (False, True))),
    key=lambda split: (len(split.rows) + len(split.columns) + split.maps, split.maps, len(split.columns)),
)


def outcome(case: CaseEvent) -> str:
    """Return the outcome of a case; for a verdict without an outcome, the verdict."""
    return str(case.verdict) if case.verdict in _WITHOUT_OUTCOME else case.observed or "other"


def grids(cases: Iterable[CaseEvent], *, planned: frozenset[str] = frozenset()) -> tuple[Grid, ...]:
    """Return the grids of one kernel's redirect cases.

    A cell stands for several cases only if all agree and all were seen. During a run `planned` has
    the ids of all cases it will see: they have their rows and columns from the start.
    """
    of_mode = by_mode(cases)
    return tuple(grid for mode in MODES for grid in _mode(mode, of_mode[mode], planned))


def marks(cases: Iterable[CaseEvent]) -> dict[str, Mark]:
    """Choose a mark for every outcome of the redirect cases, no two alike; a name without its own gets a letter."""
    chosen: dict[str, Mark] = {}
    spare = iter(_SPARE)
    for name in sorted({outcome(case) for case in cases if case.id in _redirects()}):
        mark = _mark(name)
        if name.partition("-E")[0] not in _MARKS or mark.glyph in {each.glyph for each in chosen.values()}:
            letter = next(spare, "?")
            mark = Mark(letter, letter, mark.words, mark.colour)
        chosen[name] = mark
    order = "".join(mark.glyph for mark in _MARKS.values()) + _SPARE
    return dict(sorted(chosen.items(), key=lambda item: order.find(item[1].glyph)))


def legend(marks: Mapping[str, Mark], shown: Sequence[Grid], style: Style, *, unseen: str = "not run") -> list[str]:
    """Return the legend of the marks that the grids use."""
    cells = {cell for grid in shown for row in (*grid.rows.values(), *grid.extras.values()) for cell in row}
    entries = [mark for name, mark in marks.items() if any(cell.outcome == name for cell in cells)]
    if any(not cell.outcome for cell in cells):
        entries.append(replace(_UNSEEN, words=unseen))
    if any(cell.known for cell in cells):
        entries.append(Mark("( )", "( )", "known defect", "known"))
    if any(cell.unexpected for cell in cells):
        entries.append(Mark("! !", "! !", "UNEXPECTED", "bad"))
    lines = style.flow([(_glyph(mark, style), mark.colour, mark.words) for mark in entries], gap=3)
    layouts = [name for name in LAYOUTS if any(name in grid.extras for grid in shown)]
    if layouts:
        words = "; ".join(f"{name}: {LAYOUTS[name].words}" for name in layouts)
        lines += style.wrap(f"Same kind: rows of layouts in which IN and OUT are of the same kind. {words}.")
    return lines


def lines(shown: Sequence[Grid], marks: Mapping[str, Mark], style: Style) -> list[str]:
    """Draw the grids, two side by side where the page is wide enough."""
    page: list[str] = []
    rest = list(shown)
    while rest:
        pair = rest[:2]
        if sum(grid.width for grid in pair) + len(_GAP) > WIDTH or not _alike(*pair):
            pair = rest[:1]
        del rest[: len(pair)]
        drawn = [_draw(grid, marks, style) for grid in pair]
        blank = " " * pair[0].width
        page += [_GAP.join(parts).rstrip() for parts in itertools.zip_longest(*drawn, fillvalue=blank)]
        page.append("")
    return page


def _alike(left: Grid, right: Grid | None = None) -> bool:
    """Return whether two grids may stand side by side: two whole modes, or the map types of one."""
    return right is None or not (left.map or right.map) or left.mode == right.mode


def common_split(mode: str, kernels: Iterable[Sequence[CaseEvent]]) -> Split:
    """Return the coarsest split of a mode in which the cases of every cell agree, on each kernel.

    The cases are such as `by_mode` returns. Unexpected cases are ignored: they are exceptions.
    """
    each = [[case for case in cases if case.verdict.expected] for cases in kernels]
    return next(split for split in _SPLITS if all(_agree(_merge(cases, split)) for cases in each))


def by_mode(cases: Iterable[CaseEvent]) -> dict[str, list[CaseEvent]]:
    """Return the redirect cases of one kernel by mode, each case once; an unexpected verdict outranks another."""
    worst: dict[str, CaseEvent] = {}
    for case in cases:
        if case.id in _redirects() and (case.id not in worst or worst[case.id].verdict.expected):
            worst[case.id] = case
    return {mode: [case for case in worst.values() if _redirects()[case.id]["mode"] == mode] for mode in MODES}


def draws(group: str) -> bool:
    """Return whether the cases of a group are shown as grids."""
    return group in GROUPS and GROUPS[group].matrix


def redirect_ids() -> Collection[str]:
    """Return the ids of the cases that have a place."""
    return _redirects().keys()


def place(case: CaseEvent, split: Split) -> Place:
    """Return where a redirect case belongs."""
    return split.place(_redirects()[case.id])


def members(mode: str, split: Split) -> Mapping[Place, int]:
    """Return the number of cases for each place of a mode, whether they were run or not."""
    return _members(mode, split)


def names(split: frozenset[str]) -> tuple[str, ...]:
    """Return the rows or columns if these families are split."""
    return tuple(dict.fromkeys(_name(kind, split) for kind in KINDS))


def _mode(mode: str, cases: Sequence[CaseEvent], planned: frozenset[str]) -> Iterable[Grid]:
    ids = frozenset(each for each in planned if _redirects().get(each, {}).get("mode") == mode)
    ids |= {case.id for case in cases}
    split, found = next(
        (split, found)
        for split, found in ((split, _merge(cases, split)) for split in _SPLITS)
        if _agree(found) and _whole(mode, split, ids)
    )
    cells = {place: cells[0] for place, cells in found.items()}
    places = _places(split, ids).keys()
    rows = [name for name in names(split.rows) if any(row == name for _, row, _ in places)]
    columns = tuple(name for name in names(split.columns) if any(column == name for _, _, column in places))
    extras = [name for name in LAYOUTS if name != PLAIN and any(row == name for _, row, _ in places)]
    for kind in (each for each in ("", *MAPS) if any(map_ == each for map_, _, _ in places)):

        def line(row: str, kind: str = kind) -> tuple[Cell, ...]:
            return tuple(cells.get((kind, row, column), Cell()) for column in columns)

        yield Grid(mode, kind, columns, {row: line(row) for row in rows}, {row: line(row) for row in extras})


def _agree(found: Mapping[Place, Sequence[Cell]]) -> bool:
    """Return whether cells that share a place agree."""
    return all(len(set(cells)) == 1 for cells in found.values())


def _whole(mode: str, split: Split, ids: frozenset[str]) -> bool:
    """Return whether every place has all its cases."""
    members = _members(mode, split)
    return all(count >= members[place] for place, count in _places(split, ids).items())


def _merge(cases: Sequence[CaseEvent], split: Split) -> Mapping[Place, Sequence[Cell]]:
    """Put every case into its place."""
    cells: dict[Place, list[Cell]] = {}
    for case in cases:
        cell = Cell(outcome(case), not case.verdict.expected, case.verdict is Verdict.XFAIL)
        cells.setdefault(split.place(_redirects()[case.id]), []).append(cell)
    return cells


@functools.cache
def _redirects() -> Mapping[str, Mapping[str, str]]:
    """Return the parameters of every case by its id; the event of a case that crashed the harness has none."""
    return {case.id: case.params for case in redirect_cases()}


@functools.cache
def _members(mode: str, split: Split) -> Counter[Place]:
    """Count how many cases there are for each place."""
    return _places(split, frozenset(name for name, params in _redirects().items() if params["mode"] == mode))


@functools.lru_cache(maxsize=256)
def _places(split: Split, ids: frozenset[str]) -> Counter[Place]:
    """Count how many of some redirect cases share each place."""
    return Counter(split.place(_redirects()[each]) for each in ids)


def _name(kind: str, split: frozenset[str]) -> str:
    """Return the kind, without its address family unless the grid has a row for each family."""
    plain = kind.rstrip("46")
    return kind if plain in split else plain


@functools.cache
def _mark(name: str) -> Mark:
    base, _, errno = name.rpartition("-") if re.search("-E[A-Z0-9]+$", name) else (name, "", "")
    found = _MARKS.get(base)
    if found is None:
        return Mark("?", "?", name)
    return Mark(found.glyph, found.ascii, found.words.format(errno=errno or "an error"), found.colour)


def _glyph(mark: Mark, style: Style) -> str:
    return mark.glyph if style.unicode else mark.ascii


def _draw(grid: Grid, marks: Mapping[str, Mark], style: Style) -> list[str]:
    """Return lines that are all as wide as the grid."""
    pad = " " * (grid.width - len(grid.title))
    drawn = [style.paint(grid.title, "strong") + pad, *_heading(grid.columns, style)]

    def row(label: str, cells: Iterable[Cell]) -> str:
        return " ".join([label.ljust(_LABEL), *(_cell(cell, marks, style) for cell in cells)])

    drawn += [row(*each) for each in grid.rows.items()]
    if grid.extras:
        drawn.append(style.paint("Same kind:".ljust(grid.width), "faint"))
    drawn += [row(*each) for each in grid.extras.items()]
    return drawn


def _heading(columns: Sequence[str], style: Style) -> list[str]:
    """Name the columns, a group and its members: `unix` above `str` and `dgr`, `tcp` above `v4` and `v6`."""
    above = below = ""
    for group, members in itertools.groupby(columns, key=lambda column: column.rstrip("46").partition("_")[0]):
        names = [member.removeprefix(group).lstrip("_") for member in members]
        width = 4 * len(names) - 1
        above += " " + (group if any(names) else "").center(width)
        below += "".join(f" {_short(name) or group:^3}" for name in names)
    return [" " * _LABEL + style.paint(above, "faint"), style.paint("IN \\ OUT".ljust(_LABEL) + below, "faint")]


def _short(name: str) -> str:
    return f"v{name}" if name.isdigit() else name[:3]


def _cell(cell: Cell, marks: Mapping[str, Mark], style: Style) -> str:
    mark = marks[cell.outcome] if cell.outcome else _UNSEEN
    glyph = _glyph(mark, style)
    if cell.unexpected:
        return style.paint(f"!{glyph}!", "bad")
    if cell.known:
        return style.paint(f"({glyph})", "known")
    return style.paint(f" {glyph} ", mark.colour)
