# SPDX-License-Identifier: GPL-2.0-only
"""Faults injected into the harness while it judges: no wrong verdict, no hang, and nothing is left.

A random seed chooses moments and places. A few tries of each are made; `--faults 100` makes a hundred.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import pytest

from common import cache
from conformance.model import Case, Verdict
from conformance.run import machine_pool
from conformance.run.bundle import guest_bundle
from conformance.run.machine_pool import PRELOAD, MachinePool
from kernels.kernel import Kernel
from kernels.resolve import resolve
from tests.conformance.injection import (
    CASES,
    SLUG,
    TALLY,
    FaultCount,
    FaultyPool,
    apart,
    copy_template,
    left_over,
    machines,
    only_lost,
    possible_leftovers,
    run_later,
)
from tests.waiting import wait_until
from vm import template
from vm.launch import Plan
from vm.machine import MachineOptions
from vm.session import Session

pytestmark = pytest.mark.vm

OPTIONS = MachineOptions(accelerator="tcg", preload=PRELOAD)
TESTS = Path(__file__).parents[1]
SICKNESS = {"sick": TESTS / "vm/sick.py", "sick_kernel": TESTS / "conformance/sick_kernel.py"}
SPAN = 1.0
"""Seconds within which a fault strikes: a machine is restored and some cases are judged meanwhile."""

ANSWERS = 8000
"""Bytes that the guest sends during some cases."""

ETERNITY = 4e9


@pytest.fixture(name="kernel", scope="module")
def _kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a copy of its template in a cache of the module's own, and guests that can break themselves."""
    kernel = resolve("debian:6.12")
    MachinePool({SLUG: kernel}, OPTIONS).prepare(SLUG, lambda text: None)
    folder = template.newest(_key(kernel))
    assert folder is not None
    shared = cache.root()
    bundle = {**guest_bundle(), **{name: path.read_text() for name, path in SICKNESS.items()}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        copy_template(folder, cache.root() / folder.relative_to(shared))
        (cache.root() / "images").symlink_to(shared / "images")
        patch.setattr(machine_pool, "guest_bundle", lambda: bundle)
        yield kernel


@pytest.fixture(name="faulty")
def _ward(request: pytest.FixtureRequest, kernel: Kernel, tmp_path: Path) -> Iterator[FaultyPool]:
    """A pool to inject faults into; whatever they are, nothing is left in the end."""
    option = request.config.option
    row = FaultCount(request.node.name.removeprefix("test_").replace("_", " "))
    request.config.stash.setdefault(TALLY, []).append(row)
    with apart(tmp_path / "temporary"):
        before = possible_leftovers()
        with closing(MachinePool({SLUG: kernel}, OPTIONS)) as pool:
            yield FaultyPool(pool, row, option.faults, random.Random(option.faults_seed))
        left = left_over(before)
    row.leftovers = len(left)
    assert not left


def _key(kernel: Kernel) -> str:
    return Plan(kernel, OPTIONS, print).key


def _sick(function: str, deadline: float = 3.0, **arguments: object) -> Case:
    """Return a case that the judge cannot judge."""
    params = {**CASES[0].params, **cast("dict[str, str]", arguments)}
    return Case("redirect", function, function, params, deadline)


def _signal(number: signal.Signals) -> Callable[[], None]:
    """Return a function that sends a signal to QEMU as soon as it runs."""

    def action() -> None:
        wait_until(lambda: bool(machines()), "there is a machine")
        with suppress(ProcessLookupError):
            os.kill(machines()[-1], number)

    return action


def test_qemu_is_killed(faulty: FaultyPool, kernel: Kernel) -> None:
    """At whatever moment QEMU dies, at most the one case it was at is lost, and says so; its template stays."""
    folder = template.newest(_key(kernel))
    assert folder is not None
    identity = template.identity(folder)
    for _ in faulty.draws(5):
        faulty.pool.close()
        blow = run_later(faulty.random.uniform(0, SPAN), _signal(signal.SIGKILL))
        only_lost(faulty.judge_until(lambda: not blow.is_alive()), "QEMU was killed by SIGKILL")  # noqa: B023
        assert template.identity(folder) == identity


def test_qemu_is_stopped(faulty: FaultyPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped QEMU costs one case its deadline; the verdict does not say that the kernel hangs."""
    monkeypatch.setattr("vm.session.GRACE", 0.2)
    monkeypatch.setattr("vm.launch.RESTORE_PATIENCE", 0.5)
    monkeypatch.setattr(machine_pool, "_LEAST", 1.0)
    for _ in faulty.draws(2, share=10):
        faulty.pool.close()
        blow = run_later(faulty.random.uniform(0, SPAN), _signal(signal.SIGSTOP))
        only_lost(faulty.judge_until(lambda: not blow.is_alive()), "QEMU is stopped")  # noqa: B023


def test_the_channel_is_cut(faulty: FaultyPool) -> None:
    """After whatever byte of its answers the guest is cut off, one case is lost."""
    for _ in faulty.draws(3):
        faulty.pool.close()
        relay = Relay(cast("Session", faulty.pool.machine(SLUG)), faulty.random.randrange(ANSWERS))
        only_lost(faulty.judge_until(lambda: not relay.is_alive()), "the machine vanished")  # noqa: B023


class Relay(threading.Thread):
    """Sits between a machine and its guest, and passes on only the given number of bytes from the guest."""

    def __init__(self, session: Session, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._guest = session._body.control
        session._body.control, self._host = socket.socketpair()
        self.start()

    def run(self) -> None:
        """Pass on."""
        self._guest.setblocking(True)
        with self._guest, self._host:
            while self._limit > 0:
                ready, _, _ = select.select([self._guest, self._host], [], [])
                for source in ready:
                    target = self._host if source is self._guest else self._guest
                    try:
                        chunk = source.recv(1 << 16)
                        if source is self._guest:
                            chunk = chunk[: self._limit]
                            self._limit -= len(chunk)
                        target.sendall(chunk)
                    except OSError:
                        return
                    if not chunk:
                        return


def test_the_guest_babbles(faulty: FaultyPool) -> None:
    """10 MiB of noise on the channel cost the case that makes it, at once."""
    for _ in faulty.draws(1, share=10):
        begin = time.monotonic()
        only_lost([faulty.judge(_sick("sick_kernel:send_garbage", 60.0, bytes=10 << 20))], "makes no sense")
        assert time.monotonic() - begin < 60
        assert {faulty.judge(case).verdict for case in CASES[:3]} == {Verdict.PASS}


def test_the_clock_jumps(faulty: FaultyPool) -> None:
    """However a case sets the guest's clock, later cases are not affected."""
    for _ in faulty.draws(2):
        faulty.judge(_sick("sick:set_clock", to=faulty.random.uniform(0, ETERNITY)))
        assert {faulty.judge(case).verdict for case in CASES[:3]} == {Verdict.PASS}


@pytest.mark.parametrize("end", ["return", "die", "hang"])
def test_process_ids_run_out(faulty: FaultyPool, end: str) -> None:
    """A case that uses up all process ids does not affect later cases."""
    for _ in faulty.draws(1, share=10):
        verdict = faulty.judge(_sick("sick:fork_bomb", 1.0 if end == "hang" else 20.0, end=end)).verdict
        assert verdict is (Verdict.HANG if end == "hang" else Verdict.INFRA)
        assert {faulty.judge(case).verdict for case in CASES[:3]} == {Verdict.PASS}


def test_memory_runs_out(faulty: FaultyPool) -> None:
    """A guest that ran out of memory says nothing about its kernel, and is replaced."""
    for _ in faulty.draws(1, share=10):
        assert faulty.judge(_sick("sick:fill_memory", 20.0)).verdict is Verdict.INFRA
        assert {faulty.judge(case).verdict for case in CASES[:3]} == {Verdict.PASS}


def _flip(path: Path, draw: random.Random) -> None:
    """Change one byte where there is data."""
    with path.open("r+b") as file:
        file.seek(os.lseek(file.fileno(), draw.randrange(path.stat().st_size), os.SEEK_DATA))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1 << draw.randrange(8)]))


def _truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def _remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def _scribble(path: Path, draw: random.Random) -> None:
    """Write into a hole: in memory, that is where the guest never wrote, so that it does not notice."""
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_HOLE)
        file.write(b"x")


HARMS = (_flip, _truncate, _remove)
FILES = ("state", "state", "ram", template.MANIFEST)


@pytest.fixture(name="spare")
def _spare(kernel: Kernel, tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Provide the newest template and an older copy, so that losing the newest costs no boot; return the newest."""
    folder = template.newest(_key(kernel))
    assert folder is not None
    master, older = folder.rename(tmp_path / "master"), folder.with_name(f"{_key(kernel)}-older")

    def laid_out() -> Path:
        for place, age in ((folder, 0), (older, 60)):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(master, place, copy_function=os.link)
            os.utime(place, (time.time() - age, time.time() - age))
        return folder

    yield laid_out
    for place in (folder, older):
        shutil.rmtree(place, ignore_errors=True)
    master.rename(folder)


def test_the_template_is_corrupt(faulty: FaultyPool, spare: Callable[[], Path]) -> None:
    """Whatever is wrong with a template's files, no clone of it judges anything: it is discarded.

    Damage that only a checksum finds comes first; most other damage kills a clone, which also discards the template.
    """
    for number in faulty.draws(4):
        name, harm = (faulty.random.choice(FILES), faulty.random.choice(HARMS)) if number else ("ram", _scribble)
        faulty.pool.close()
        path = spare() / name
        own = path.with_name("own")
        template.copy_sparse(path, own)
        shutil.copystat(path, own)
        harm(own.replace(path), faulty.random)
        assert {faulty.judge(case).verdict for case in CASES[:3]} == {Verdict.PASS}
        assert not path.parent.exists()


def test_the_template_is_deleted(faulty: FaultyPool, spare: Callable[[], Path]) -> None:
    """At whatever moment a template goes, its clone lives on, and another template serves the next."""
    for _ in faulty.draws(3):
        faulty.pool.close()
        folder = spare()
        blow = run_later(faulty.random.uniform(0, SPAN / 2), lambda: cache.remove(folder))  # noqa: B023
        assert {each.verdict for each in faulty.judge_until(lambda: not blow.is_alive())} == {Verdict.PASS}  # noqa: B023
        faulty.pool.close()
        assert faulty.judge(CASES[0]).verdict is Verdict.PASS
