# SPDX-License-Identifier: GPL-2.0-only
"""Support for injected faults: a pool to inject them into, and a table of their outcomes.

`--faults N` makes N tries of each fault with a random moment or place.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common import cache
from conformance.groups.redirect.cases import redirect_cases
from conformance.model import Case, Judgement, Verdict
from conformance.run.machine_pool import MachinePool
from conformance.run.try_case import examine
from tests.conformance.conform import descendants, is_qemu
from vm import template

PORT = "virtserialport"
PR_SET_CHILD_SUBREAPER = 36
SLUG = "debian-6.12"
SEED = 6121117
CASES = tuple(
    case
    for case in redirect_cases()
    if case.name.startswith("sockmap-ingress-to-egress-") and case.params["in"] == "tcp4"
)
"""Cases of one kind that pass on this kernel: any other verdict comes from the fault."""


@dataclass(slots=True)
class FaultCount:
    """The outcome of one fault."""

    fault: str
    tries: int = 0
    right: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    leftovers: int = 0


TALLY = pytest.StashKey[list[FaultCount]]()


@dataclass(slots=True)
class FaultyPool:
    """A pool, its random faults, and the row in which they are counted."""

    pool: MachinePool
    row: FaultCount
    tries: int
    """The number of --faults; 0 without the option."""
    random: random.Random

    def judge(self, case: Case) -> Judgement:
        """Examine a case and record its verdict."""
        judgement, _ = examine(self.pool, SLUG, case)
        self.row.verdicts[str(judgement.verdict)] += 1
        return judgement

    def judge_until(self, over: Callable[[], bool]) -> list[Judgement]:
        """Examine cases until `over`, and then some more."""
        judgements = []
        while not over():
            judgements += [self.judge(self.random.choice(CASES))]
        return judgements + [self.judge(case) for case in CASES[:3]]

    def draws(self, usual: int, *, share: int = 1) -> Iterator[int]:
        """Yield the numbers of the tries: `usual` ones, or 1/`share` of --faults. Reaching the next makes one right."""
        for number in range(max(1, self.tries // share) if self.tries else usual):
            self.row.tries += 1
            yield number
            self.row.right += 1


def run_later(delay: float, action: Callable[[], object]) -> threading.Thread:
    """Run a function after some seconds, in a thread."""
    timer = threading.Timer(delay, action)
    timer.start()
    return timer


def machines() -> list[int]:
    """Return the QEMUs of this process that are to run a guest."""
    return sorted(pid for pid in filter(is_qemu, descendants(os.getpid())) if PORT in _command_line(pid))


@contextmanager
def apart(folder: Path) -> Iterator[None]:
    """Put temporary files into our own folder, which no other process uses."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        yield


@contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of orphaned descendants, so that possible_leftovers() finds them."""
    prctl = ctypes.CDLL(None).prctl
    assert not prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def possible_leftovers(*, shared: bool = False) -> dict[str, list[str]]:
    """Return everything that could be left behind: processes, descriptors, files of any type.

    A `shared` cache is left out, because others use it.
    """
    links = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    kept = {"locks", "templates"}
    cached = () if shared else (each for each in cache.root().rglob("*") if not each.is_dir())
    files = [*cached, *Path(tempfile.gettempdir()).rglob("*")]
    return {
        "processes": [f"{pid} {_command_line(pid)}" for pid in sorted(descendants(os.getpid()))],
        "descriptors": sorted(link for link in links if link.startswith(("socket:", "/memfd:", "anon_inode:"))),
        "files": sorted(str(file) for file in files if not kept & set(file.parts)),
    }


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def left_over(before: dict[str, list[str]], *, shared: bool = False) -> list[str]:
    """Return what has been added since an earlier possible_leftovers()."""
    now = possible_leftovers(shared=shared)
    return [f"{kind}: {each}" for kind in now for each in (Counter(now[kind]) - Counter(before[kind])).elements()]


def table(rows: list[FaultCount]) -> list[str]:
    """Print the outcomes of the faults."""
    lines = [f"{'fault':44} {'tries':>5} {'right':>5} {'leftovers':>9}  verdicts"]
    for row in rows:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in row.verdicts.most_common())
        lines.append(f"{row.fault:44} {row.tries:5} {row.right:5} {row.leftovers:9}  {verdicts}")
    return lines


def only_lost(judgements: list[Judgement], words: str, most: int = 1) -> None:
    """Assert that all cases pass except `most`, which lost their machine for the given reason."""
    others = [each for each in judgements if each.verdict is not Verdict.PASS]
    assert len(others) <= most, others
    assert all(each.verdict in (Verdict.LOST, Verdict.INFRA) and words in each.differences[0] for each in others), (
        others
    )


def copy_template(source: Path, target: Path) -> None:
    """Copy a template with its dates and holes."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in source.iterdir():
        template.copy_sparse(path, target / path.name)
        shutil.copystat(path, target / path.name)
