# SPDX-License-Identifier: GPL-2.0-only
"""Host faults injected into whole runs: full disks, and a second run with the same cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from common import cache
from common.errors import HostError
from conformance.model import Verdict
from conformance.report.events import read
from conformance.run.bundle import guest_bundle
from conformance.run.machine_pool import PRELOAD, MachinePool
from kernels.resolve import resolve
from tests.conformance.conform import command, conform, environment
from tests.conformance.injection import (
    CASES,
    SLUG,
    TALLY,
    FaultCount,
    FaultyPool,
    adopting,
    apart,
    left_over,
    possible_leftovers,
)
from vm import template
from vm.launch import Plan
from vm.machine import MachineOptions

pytestmark = pytest.mark.vm

KERNEL = "debian:6.12"
OPTIONS = MachineOptions(accelerator="tcg", preload=PRELOAD)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture(name="row")
def _row(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultCount]:
    """A line in the table of faults."""
    row = FaultCount(request.node.name.removeprefix("test_").replace("_", " "), tries=1)
    request.config.stash.setdefault(TALLY, []).append(row)
    with apart(tmp_path / "temporary"), adopting():
        before = possible_leftovers(shared=True)
        yield row
        left = left_over(before, shared=True)
    row.leftovers += len(left)
    assert not left


@contextmanager
def _disk(folder: Path, size: str, *, real: bool = False) -> Iterator[Path]:
    """A small disk, in memory or `real`: on tmpfs, reading a hole takes room, too."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    if real:
        image = folder.with_suffix(".image")
        subprocess.run(["truncate", "--size", size, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        mount = ["mount", "-o", "loop", str(image)]
    subprocess.run([*mount, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(folder: Path) -> None:
    """Fill the disk."""
    with suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


@needs_root
@pytest.mark.parametrize("moment", ["before", "while-booting"])
def test_the_disk_is_full_when_a_template_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: FaultCount, moment: str
) -> None:
    """Without room for a guest's memory the error names the disk, and no half-made file is left."""
    kernel = resolve(KERNEL)
    images = cache.root() / "images"
    guest_bundle()  # made, for it goes into the cache
    fillers: list[threading.Thread] = []

    def progress(text: str) -> None:
        if text.startswith("booting") and moment == "while-booting":
            fillers.append(threading.Thread(target=_fill, args=(disk,)))
            fillers[0].start()

    with _disk(tmp_path / "disk", "100M" if moment == "before" else "600M") as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        cache.root().mkdir()
        (cache.root() / "images").symlink_to(images)
        before = possible_leftovers()
        with closing(MachinePool({SLUG: kernel}, OPTIONS)) as pool, pytest.raises(HostError) as caught:
            pool.prepare(SLUG, progress)
        for filler in fillers:
            filler.join()
        left = left_over(before)
        assert not list(cache.root().glob("templates/*"))
    row.leftovers = len(left)
    assert "no space left" in str(caught.value) or "QEMU was killed by SIGBUS" in str(caught.value)
    assert "disk" in caught.value.hint or "space" in caught.value.hint
    assert not left
    row.verdicts["refused"] += 1
    row.right += 1


@needs_root
@pytest.mark.skipif(not (shutil.which("mkfs.ext4") and Path("/dev/loop-control").exists()), reason="no loop devices")
def test_the_disk_is_full_when_cases_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: FaultCount
) -> None:
    """Clones need no disk."""
    kernel = resolve(KERNEL)
    MachinePool({SLUG: kernel}, OPTIONS).prepare(SLUG, lambda text: None)
    source = template.newest(Plan(kernel, OPTIONS, print).key)
    assert source is not None
    with _disk(tmp_path / "disk", "700M", real=True) as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        (cache.root() / "templates").mkdir(parents=True)
        subprocess.run(["cp", "--archive", source, cache.root() / "templates"], check=True)
        _fill(disk)
        before = possible_leftovers()
        with closing(MachinePool({SLUG: kernel}, OPTIONS)) as pool:
            faulty = FaultyPool(pool, row, 0, None)  # type: ignore[arg-type]
            judgements = [faulty.judge(case) for case in CASES[:3]]
        left = left_over(before)
    row.leftovers = len(left)
    assert {each.verdict for each in judgements} == {Verdict.PASS}, judgements
    assert not left
    row.right += 1


@needs_root
def test_the_disk_is_full_when_results_are_written(tmp_path: Path, row: FaultCount) -> None:
    """An event log that cannot be written ends the run with one sentence; earlier lines are complete."""
    with _disk(tmp_path / "disk", "64k") as disk:
        results = disk / "results"
        done = conform(
            "run", "--kernel", KERNEL, "--results", str(results), "-k", "ingress-to-egress-tcp4", cwd=tmp_path
        )
        seen = sum(map(len, read(results).cases.values()))
    assert done.returncode == 128, done.stdout + done.stderr
    assert "cannot write the event log" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert seen > 0
    row.verdicts["refused"] += 1
    row.right += 1


def test_two_suites_share_a_cache(tmp_path: Path, row: FaultCount) -> None:
    """Of two runs that need the same template one makes it; both use it, and nothing is left."""
    home = tmp_path / "cache" / cache.root().name
    home.mkdir(parents=True)
    for path in cache.root().iterdir():
        if path.name not in ("templates", "partial", "locks"):
            (home / path.name).symlink_to(path)
    world = environment(XDG_CACHE_HOME=str(home.parent))
    arguments = command("run", "--kernel", KERNEL, "-n", "1", "-k", CASES[0].name)
    suites = [
        subprocess.Popen(
            arguments, cwd=tmp_path, env=world, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    said = [suite.communicate(timeout=300)[0] for suite in suites]
    left = list((home / "partial").iterdir())
    row.leftovers = len(left)
    assert [suite.returncode for suite in suites] == [0, 0], said
    assert sum("booting" in text for text in said) == 1
    assert len(list((home / "templates").iterdir())) == 1
    assert not left
    row.verdicts["pass"] += 2
    row.right += 1
