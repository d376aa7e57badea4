# SPDX-License-Identifier: GPL-2.0-only
"""Boundaries between versions, and the kernels that prove them."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.expect.rules import Bound
from conformance.groups import cases
from conformance.judge import boundaries as module
from conformance.judge.boundaries import Boundary, boundaries, proofs
from kernels.version import Version

BOUND = Bound(Version.parse("7.2"), {"6.12": Version.parse("6.12.101"), "6.18": Version.parse("6.18.42")})
KERNELS = [Version.parse(text) for text in ("6.1.192", "6.12.96", "6.12.100", "6.12.105", "6.18.15", "7.2.6", "7.3.4")]


def boundary(branch: str) -> Boundary:
    """Return one side of BOUND."""
    version = BOUND.branches.get(branch, BOUND.mainline)
    return Boundary("66efd3368ae1", "title", branch, version, BOUND, ("a.toml: row",), "insert/sockmap-udp4-fresh")


@pytest.mark.parametrize(
    ("branch", "pair"), [("6.12", ("6.12.100", "6.12.105")), ("6.18", None), ("mainline", ("6.1.192", "7.2.6"))]
)
def test_the_nearest_kernels_on_both_sides_prove_a_boundary(branch: str, pair: tuple[str, str] | None) -> None:
    """A stable branch is proved by its own kernels, mainline by those of branches that got no backport."""
    found = boundary(branch).pair(KERNELS)
    assert (tuple(map(str, found)) if found else None) == pair


def test_every_boundary_has_a_case_and_a_row() -> None:
    """Each is after 6.12, has a commit, and names an existing case."""
    known = {case.id for case in cases()}
    assert len(boundaries()) >= 30
    for each in boundaries():
        assert each.version > module.SINCE
        assert each.case in known
        assert each.rows
        assert each.commit


def test_a_row_about_a_layout_names_a_case_with_that_layout() -> None:
    """For a group with its own judge, the case is one that the row decides."""
    (found,) = [each for each in boundaries() if (each.commit, each.branch) == ("5459cce6bf49", "6.12")]
    assert "parser" in found.case


def test_every_proof_is_of_a_boundary_and_straddles_it() -> None:
    """A proof that proves nothing is an error in the data."""
    assert proofs()
    for proof in proofs():
        (each,) = (each for each in boundaries() if each.proof() == proof)
        before, after = (Version.parse(release.partition("+")[0]) for release in (proof.before, proof.after))
        assert not each.bound.reached(before)
        assert each.bound.reached(after)


def test_a_wrong_proof_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row with an unknown or a missing key gives one sentence."""
    path = tmp_path / "proved.toml"
    path.write_text('[[proof]]\ncommit = "66efd3368ae1"\n')
    monkeypatch.setattr(module, "PROVED", path)
    proofs.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"proved\.toml: "):
            proofs()
    finally:
        proofs.cache_clear()
