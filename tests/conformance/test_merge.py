# SPDX-License-Identifier: GPL-2.0-only
"""Shares of the cases, and one run made of many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from conformance.groups import cases
from conformance.model import Verdict
from conformance.report.events import NAME
from conformance.report.events import CaseEvent
from conformance.report.events import EventLog
from conformance.report.events import FinishEvent
from conformance.report.events import KernelEvent
from conformance.report.events import RunEvent
from conformance.report.events import read
from conformance.run.shard import Shard
from tests.conformance.conform import conform

KERNEL = KernelEvent(spec="debian:6.12", slug="debian-6.12", release="6.12.107+deb12-amd64", digest="5d" * 32)
NAMES = [f"case-{number}" for number in range(12)]


@given(st.sampled_from([case.id for case in cases()]), st.integers(1, 50))
def test_every_case_is_in_exactly_one_share(case: str, count: int) -> None:
    """Nothing is judged twice, nothing is left out."""
    assert [Shard(number, count).holds(case) for number in range(1, count + 1)].count(True) == 1


def test_shares_are_even() -> None:
    """None of four shares of all cases is a tenth larger than it should be."""
    ids = [case.id for case in cases()]

    sizes = [sum(map(Shard(number, 4).holds, ids)) for number in range(1, 5)]

    assert max(sizes) < 1.1 * len(ids) / 4


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", ""])
def test_what_is_no_share(text: str) -> None:
    """The option and what it was given are named."""
    with pytest.raises(UsageError, match="--shard"):
        Shard.parse(text)


def write(folder: Path, shard: str, names: Iterable[str], verdict: Verdict = Verdict.PASS) -> str:
    """Write the results of one share, and return where."""
    chosen = list(names)
    start = RunEvent(
        started="2026-11-22T20:29:00Z", command=("./conform",), selected={KERNEL.slug: len(chosen)}, shard=shard
    )
    with EventLog(folder / NAME) as log:
        log.write(start)
        log.write(KERNEL)
        case = CaseEvent(kernel=KERNEL.slug, group="redirect", name="", id="", verdict=verdict)
        for name in chosen:
            log.write(replace(case, name=name, id=f"redirect/{name}"))
        log.write(FinishEvent(exit_code=0, seconds=1.0))
    return str(folder)


class TestMerge:
    """Through the real command."""

    def test_two_shares_are_one_run(self, tmp_path: Path) -> None:
        """All cases, one kernel, one verdict; and the result can be merged again."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "2", "2/2", NAMES[5:])]

        done = conform("merge", *parts, "--output", "whole", cwd=tmp_path)

        assert done.returncode == 0, done.stderr
        run = read(tmp_path / "whole")
        assert [case.name for case in run.cases[KERNEL.slug]] == NAMES
        assert (run.start.selected, run.start.shard) == ({KERNEL.slug: 12}, "")
        assert run.finish is not None
        assert run.finish.exit_code == 0
        assert (tmp_path / "whole" / "summary.json").is_file()
        assert conform("merge", "whole", "--output", "again", cwd=tmp_path).returncode == 0

    def test_a_bad_share_makes_a_bad_run(self, tmp_path: Path) -> None:
        """What is unexpected in one of them is so in the whole."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "2", "2/2", NAMES[5:6], Verdict.FAIL)]

        assert conform("merge", *parts, "--output", "whole", cwd=tmp_path).returncode == 1

    def test_a_missing_share_is_no_success(self, tmp_path: Path) -> None:
        """A job that died must not make the night green."""
        parts = [write(tmp_path / "1", "1/3", NAMES[:5]), write(tmp_path / "3", "3/3", NAMES[5:])]

        done = conform("merge", *parts, "--output", "whole", cwd=tmp_path)

        assert (done.returncode, done.stderr) == (125, "conform: shard 2/3 is missing\n")
        assert (tmp_path / "whole" / NAME).is_file()

    def test_shares_of_different_divisions(self, tmp_path: Path) -> None:
        """Halves and thirds make no whole."""
        parts = [write(tmp_path / "1", "1/2", NAMES[:5]), write(tmp_path / "3", "3/3", NAMES[5:])]

        assert conform("merge", *parts, "--output", "whole", cwd=tmp_path).returncode == 128

    def test_the_parts_are_not_overwritten(self, tmp_path: Path) -> None:
        """Not even by a slip of the finger."""
        part = write(tmp_path / "1", "1/1", NAMES)

        assert conform("merge", part, "--output", "1", cwd=tmp_path).returncode == 128
        assert len(read(Path(part)).cases[KERNEL.slug]) == 12
