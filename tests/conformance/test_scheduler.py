# SPDX-License-Identifier: GPL-2.0-only
"""Cases are handed out by kernel and shard, from the node id alone."""

from __future__ import annotations

from conformance.groups.redirect.cases import redirect_cases
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, RunEvent
from conformance.report.events import Run
from conformance.run.scheduler import SHARDS, durations, longest_first, scope_of


def _scope(kernel: str, name: str, slugs: tuple[str, ...] = ("debian-6.12",)) -> str:
    return scope_of(f"conformance/cases/test_redirect.py::test_redirect[{kernel}-{name}]", slugs)


def test_a_scope_never_mixes_kernels() -> None:
    """The same case on two kernels falls into two scopes."""
    slugs = ("debian-6.12", "debian-6.1")

    first = _scope("debian-6.12", "sockmap-send-to-local-tcp4-tcp4", slugs)
    second = _scope("debian-6.1", "sockmap-send-to-local-tcp4-tcp4", slugs)

    assert first.startswith("debian-6.12/")
    assert second.startswith("debian-6.1/")


def test_the_longest_slug_wins() -> None:
    """A kernel whose slug extends another's keeps its own cases."""
    slugs = ("debian-6.12-cloud", "debian-6.12")

    assert _scope("debian-6.12-cloud", "sockmap-send-to-local-tcp4-tcp4", slugs).startswith("debian-6.12-cloud/")


def test_shards_are_even() -> None:
    """Every shard of the redirect matrix holds between half and twice its fair share."""
    scopes = [_scope("debian-6.12", case.name) for case in redirect_cases()]
    fair = len(scopes) / SHARDS

    sizes = [scopes.count(scope) for scope in set(scopes)]

    assert len(sizes) == SHARDS
    assert all(fair / 2 < size < fair * 2 for size in sizes)


def test_a_test_without_a_kernel_keeps_its_module() -> None:
    """Other tests are grouped by module, as loadscope does."""
    assert scope_of("tests/test_x.py::test_y[a-b]", ("debian-6.12",)) == "tests/test_x.py"


def _event(kernel: str, name: str, seconds: float) -> CaseEvent:
    node = f"conformance/cases/test_redirect.py::test_redirect[{kernel}-{name}]"
    return CaseEvent(
        kernel=kernel, group="redirect", name=name, id=name, verdict=Verdict.PASS, nodeid=node, seconds=seconds
    )


def test_the_longest_kernel_and_its_longest_shard_begin() -> None:
    """By the durations of the last run; a new kernel comes first, because it might take longest."""
    last = Run(RunEvent(started="", command=()))
    quick, slow = (each.name for each in redirect_cases()[:2])
    for event in (_event("old", quick, 1.0), _event("old", slow, 4.0), _event("big", quick, 9.0)):
        last.add(event)
    slugs = ["old", "big", "new"]
    nodes = [(slug, _event(slug, name, 0.0).nodeid) for slug in slugs for name in (quick, slow)]
    key = longest_first(durations(last), slugs)

    ordered = sorted(nodes, key=lambda node: key(*node))

    assert [slug for slug, _ in ordered] == ["new", "new", "big", "big", "old", "old"]
    assert [node for slug, node in ordered if slug == "old"] == [nodes[1][1], nodes[0][1]]
