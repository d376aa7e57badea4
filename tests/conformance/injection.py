# SPDX-License-Identifier: GPL-2.0-only
"""What the injection of faults needs: a ward to inject them in, and a table of what came of them.

`--faults N` makes N tries of each fault whose moment or place is drawn; which ones those are is printed with the table.
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
from conformance.run.machine_pool import Workbench
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
"""Of one kind: whatever is not a pass was not the kernel's fault."""


@dataclass(slots=True)
class FaultCount:
    """What came of one fault."""

    fault: str
    tries: int = 0
    right: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    leftovers: int = 0


TALLY = pytest.StashKey[list[FaultCount]]()


@dataclass(slots=True)
class FaultyWorkbench:
    """One workbench, the faults drawn for it, and the row they are counted in."""

    workbench: Workbench
    row: FaultCount
    tries: int
    """As asked for; 0 where nobody asked."""
    random: random.Random

    def judge(self, case: Case) -> Judgement:
        """Examine a case and note its verdict."""
        judgement, _ = examine(self.workbench, SLUG, case)
        self.row.verdicts[str(judgement.verdict)] += 1
        return judgement

    def judge_until(self, over: Callable[[], bool]) -> list[Judgement]:
        """Examine cases one after the other until `over`, and then some more."""
        judgements = []
        while not over():
            judgements += [self.judge(self.random.choice(CASES))]
        return judgements + [self.judge(case) for case in CASES[:3]]

    def draws(self, usual: int, *, share: int = 1) -> Iterator[int]:
        """Number the tries: `usual` ones, or that `share` of those asked for. Each is right if the next is come to."""
        for number in range(max(1, self.tries // share) if self.tries else usual):
            self.row.tries += 1
            yield number
            self.row.right += 1


def strike(delay: float, deed: Callable[[], object]) -> threading.Thread:
    """Do something after so many seconds, while the caller goes on."""
    timer = threading.Timer(delay, deed)
    timer.start()
    return timer


def machines() -> list[int]:
    """Return the QEMUs of this process that are to run a guest."""
    return sorted(pid for pid in filter(is_qemu, descendants(os.getpid())) if PORT in _command_line(pid))


@contextmanager
def apart(folder: Path) -> Iterator[None]:
    """Have temporary files go to a folder of our own, where nobody else leaves any."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        yield


@contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of what our children leave behind, so that a census finds it."""
    prctl = ctypes.CDLL(None).prctl
    assert not prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def census(*, shared: bool = False) -> dict[str, list[str]]:
    """Return what somebody could leave behind: processes, descriptors, files of any type.

    In a `shared` cache others come and go, so nobody looks there.
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
    """Return what is there now and was not."""
    now = census(shared=shared)
    return [f"{kind}: {each}" for kind in now for each in (Counter(now[kind]) - Counter(before[kind])).elements()]


def table(rows: list[FaultCount]) -> list[str]:
    """Show what came of the faults."""
    lines = [f"{'fault':44} {'tries':>5} {'right':>5} {'leftovers':>9}  verdicts"]
    for row in rows:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in row.verdicts.most_common())
        lines.append(f"{row.fault:44} {row.tries:5} {row.right:5} {row.leftovers:9}  {verdicts}")
    return lines


def only_lost(judgements: list[Judgement], words: str, most: int = 1) -> None:
    """Assert that all is well but for `most` cases, which had no machine any more, for the reason that is told."""
    others = [each for each in judgements if each.verdict is not Verdict.PASS]
    assert len(others) <= most, others
    assert all(each.verdict in (Verdict.LOST, Verdict.INFRA) and words in each.differences[0] for each in others), (
        others
    )


def copy_template(source: Path, target: Path) -> None:
    """Copy a template as it is, dates and holes included."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in source.iterdir():
        template.copy_sparse(path, target / path.name)
        shutil.copystat(path, target / path.name)
