# SPDX-License-Identifier: GPL-2.0-only
"""The grids: as small as the observations allow, and never smaller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from conformance.groups.redirect.cases import redirect_cases
from conformance.groups.redirect.outcomes import OUTCOMES
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.grid import Grid, grids, legend, lines, marks
from conformance.report.style import Style
from tests.conformance import report_runs
from tests.conformance.report_runs import KERNEL_6_12, judged, observe_5_10, observe_6_12, passing

MODE = "ingress-to-egress"
SIX = ("tcp", "udp", "unix_stream", "unix_dgram", "vsock_stream", "vsock_seqpacket")


def changed(chosen: Callable[[dict[str, str]], bool], **change: object) -> list[CaseEvent]:
    """Change some plain cases of one mode on an otherwise healthy 6.12."""
    return [
        replace(case, **change)  # type: ignore[arg-type]
        if case.params["mode"] == MODE and case.params["layout"] == "plain" and chosen(dict(case.params))
        else case
        for case in passing(KERNEL_6_12, observe_6_12)
    ]


def of_mode(shown: tuple[Grid, ...]) -> list[Grid]:
    """Return the grids of the mode that was changed."""
    return [grid for grid in shown if grid.mode == MODE]


@pytest.mark.parametrize("observe", [observe_6_12, observe_5_10])
def test_equal_families_and_maps_collapse(observe: Callable[..., str]) -> None:
    """If v4 equals v6 and sockmap equals sockhash, there are four grids of six kinds."""
    shown = grids(passing(KERNEL_6_12, observe))
    assert [grid.title for grid in shown] == [
        "send-to-local",
        "send-to-egress",
        "ingress-to-egress",
        "ingress-to-local",
    ]
    for grid in shown:
        assert grid.columns == SIX
        assert tuple(grid.rows) == SIX
        layouts = [name for name in report_runs.LAYOUTS if name != "plain"]
        assert list(grid.extras) == [each for each in layouts if each != "parser" or grid.mode.startswith("ingress")]


@pytest.mark.parametrize(
    ("chosen", "rows", "columns", "titles"),
    [
        (lambda case: case["in"] == "tcp6", {"tcp4", "tcp6", "udp"}, {"tcp", "udp"}, [MODE]),
        (lambda case: case["out"] == "udp4", {"tcp", "udp"}, {"tcp", "udp4", "udp6"}, [MODE]),
        (
            lambda case: case["map"] == "sockhash",
            {"tcp", "udp"},
            {"tcp", "udp"},
            [f"{MODE}, sockmap", f"{MODE}, sockhash"],
        ),
        (
            lambda case: case["map"] == "sockmap" and case["in"] == "tcp4" and case["out"] == "udp6",
            {"tcp4", "tcp6", "udp"},
            {"tcp", "udp4", "udp6"},
            [f"{MODE}, sockmap", f"{MODE}, sockhash"],
        ),
    ],
)
def test_only_differing_families_and_maps_are_expanded(
    chosen: Callable[[dict[str, str]], bool], rows: set[str], columns: set[str], titles: list[str]
) -> None:
    """Only the families and map types that differ are expanded, and only in the mode where they do."""
    cases = changed(chosen, observed="dropped")
    shown = grids(cases)
    assert [grid.title for grid in of_mode(shown)] == titles
    for grid in of_mode(shown):
        assert {row for row in grid.rows if row[:3] in ("tcp", "udp")} == rows
        assert {column for column in grid.columns if column[:3] in ("tcp", "udp")} == columns
    assert all(grid.columns == SIX for grid in shown if grid.mode != MODE)
    dropped = sum(cell.outcome == "dropped" for grid in of_mode(shown) for row in grid.rows.values() for cell in row)
    assert 0 < dropped <= sum(case.observed == "dropped" for case in cases if case.params["mode"] == MODE)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.XFAIL, Verdict.XPASS])
def test_cases_with_different_verdicts_share_no_cell(verdict: Verdict) -> None:
    """Two cases with the same outcome and different verdicts never share a cell."""
    shown = of_mode(grids(changed(lambda case: case["in"] == "tcp6", verdict=verdict)))
    assert {cell.unexpected or cell.known for cell in shown[0].rows["tcp6"]} == {True}
    assert {cell.unexpected or cell.known for cell in shown[0].rows["tcp4"]} == {False}


def test_a_cell_stands_only_for_cases_that_ran() -> None:
    """A single case is shown as its own kind, not as a family; a running run has its final grid."""
    one = [case for case in passing(KERNEL_6_12, observe_6_12) if case.name == f"sockmap-{MODE}-tcp4-udp6"]
    (grid,) = grids(one)
    assert (grid.title, list(grid.rows), grid.columns) == (f"{MODE}, sockmap", ["tcp4"], ("udp6",))
    everything = frozenset(case.id for case in redirect_cases())
    assert [(grid.title, grid.columns) for grid in grids(one, planned=everything)] == [
        (mode, SIX) for mode in ("send-to-local", "send-to-egress", "ingress-to-egress", "ingress-to-local")
    ]
    sockhash = frozenset(each for each in everything if each.startswith("redirect/sockhash-send-to-egress-udp"))
    (grid,) = grids([], planned=sockhash | {"insert/sockmap-tcp4-bound"})
    assert (grid.title, list(grid.rows), grid.columns) == ("send-to-egress, sockhash", ["udp"], SIX)
    assert {"same_map", "self", "peer"} <= grid.extras.keys()
    assert "parser" not in grid.extras


def test_of_a_case_seen_twice_the_worse_counts() -> None:
    """A case that failed once stays failed even if it also passed, in either order."""
    cases = passing(KERNEL_6_12, observe_6_12)
    bad = replace(cases[0], verdict=Verdict.FAIL, observed="other")
    for order in ([*cases, bad], [bad, *cases]):
        assert any(cell.unexpected for grid in grids(order) for row in grid.rows.values() for cell in row)


def test_a_case_without_parameters_keeps_its_cell() -> None:
    """A case that crashed the harness has no parameters in its event, and is still shown in its place."""
    cases = passing(KERNEL_6_12, observe_6_12)
    cases[0] = replace(cases[0], params={}, verdict=Verdict.INFRA, observed="infra")
    first = grids(cases)[0]
    assert first.title == "send-to-local, sockmap"
    assert first.rows["tcp4"][0].outcome == "infra"


def test_no_two_outcomes_look_alike() -> None:
    """Every outcome of the cases has its own glyph, in Unicode and in ASCII."""
    names = [
        *("delivered", "circulates", "native", "refused-EACCES", "refused-EPERM", "dropped", "other", "a new one"),
        *("not-inserted-EOPNOTSUPP", "not-inserted-EINVAL", "not-attached-EINVAL", "no-socket-EAFNOSUPPORT", "another"),
    ]
    cases = [
        replace(case, observed=name) for case, name in zip(passing(KERNEL_6_12, observe_6_12), names, strict=False)
    ]
    verdicts = [each for each in Verdict if each not in (Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.XPASS)]
    cases += [replace(cases[0], verdict=verdict) for verdict in verdicts]
    chosen = marks(cases)
    assert set(chosen) == {*names, *map(str, verdicts)}
    assert len({mark.glyph for mark in chosen.values()}) == len(chosen)
    assert len({mark.ascii for mark in chosen.values()}) == len(chosen)
    assert all(len(mark.glyph) == len(mark.ascii) == 1 and mark.ascii.isascii() for mark in chosen.values())
    assert "EINVAL" in chosen["not-inserted-EINVAL"].words


def test_the_legend_explains_every_glyph_shown() -> None:
    """Nothing is drawn that the legend does not explain, marks of judgement included."""
    cases = changed(lambda case: case["in"] == "tcp6", verdict=Verdict.FAIL, observed="other")
    shown, chosen = grids(cases), marks(cases)
    text = "\n".join(legend(chosen, shown, Style()))
    drawn = {mark.glyph for mark in chosen.values()}
    assert drawn <= set(text)
    assert "! ! UNEXPECTED" in text
    assert "!?!" in "\n".join(lines(shown, chosen, Style()))


def test_map_types_of_one_mode_stand_side_by_side() -> None:
    """Two grids stand side by side only if they are map types of one mode, or two modes."""
    cases = changed(lambda case: case["map"] == "sockhash", observed="dropped")
    drawn = lines(grids(cases), marks(cases), Style())
    assert any(f"{MODE}, sockmap" in line and f"{MODE}, sockhash" in line for line in drawn)
    assert not any(MODE in line and "ingress-to-local" in line for line in drawn)


def test_every_case_has_its_place() -> None:
    """All cases of the catalogue are in the grids: fully expanded, there are as many cells as cases."""
    cases = [replace(judged(KERNEL_6_12, case, "delivered"), observed=case.id) for case in redirect_cases()]
    cells = [
        cell.outcome for grid in grids(cases) for row in (*grid.rows.values(), *grid.extras.values()) for cell in row
    ]
    assert {cell for cell in cells if cell} == {case.id for case in redirect_cases()}


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_outcome_has_a_sign_of_its_own(name: str) -> None:
    """An outcome that the judge knows has words and a sign in the legend, and no two look alike."""
    (case, *_) = passing(KERNEL_6_12, observe_6_12)
    shown = {each: marks([replace(case, observed=each)])[each] for each in OUTCOMES}
    assert not shown[name].glyph.isalnum()
    assert [mark.glyph for mark in shown.values()].count(shown[name].glyph) == 1
    assert [mark.ascii for mark in shown.values()].count(shown[name].ascii) == 1


def test_other_groups_take_no_signs() -> None:
    """Observations of stepwise cases get no sign, however many there are."""
    cases = passing(KERNEL_6_12, observe_6_12)
    steps = [
        replace(cases[0], group="teardown", id=f"teardown/{number}", observed=f"step {number}") for number in range(100)
    ]
    strange = replace(cases[0], observed="strange")
    assert marks([strange, *cases, *steps]) == marks([strange, *cases])
    assert marks([strange, *steps])["strange"].glyph == "a"
