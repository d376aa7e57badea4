# SPDX-License-Identifier: GPL-2.0-only
"""Repeat cases in fresh clones, as many at a time as there are processors for."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from conformance.compare.model import TryResult
from conformance.compare.try_result import try_result
from conformance.judge.lists import Lists
from conformance.model import Case
from conformance.run.case_record import case_event
from conformance.run.machine_pool import MachinePool
from conformance.run.retries import Repetition
from conformance.run.try_case import examine
from kernels.kernel import Kernel
from vm.machine import MachineOptions
from vm.qemu import end_all

_ONCE = Repetition(tries=1)

CLONES = 32
"""Clones per kernel in a round over many cases; up to this many cases each have their own clone."""

Tries = dict[tuple[str, str], tuple[TryResult, ...]]
"""The results of all tries, by side and case id."""


def batches(cases: Sequence[Case], number: int) -> list[list[Case]]:
    """Divide cases into groups that share a clone in a round; each round groups them differently."""
    if len(cases) <= CLONES:
        return [[case] for case in cases]
    shared: list[list[Case]] = [[] for _ in range(CLONES)]
    for case in cases:
        shared[zlib.crc32(f"{number} {case.id}".encode()) % CLONES].append(case)
    return [batch for batch in shared if batch]


class Repeater:
    """Repeats cases on two kernels."""

    def __init__(
        self, kernels: Mapping[str, Kernel], options: MachineOptions, lists: Lists, workers: int, expires: float
    ) -> None:
        """Ask `kernels`, which are those of the two sides by name, until `expires` on the monotonic clock."""
        self._new = partial(MachinePool, kernels, options, expires)
        self._kernels = kernels
        self._lists = lists
        self._workers = workers
        self._over = threading.Event()

    def tries(self, cases: Sequence[Case], times: int, done: Callable[[int, int], None]) -> Tries:
        """Ask every kernel every case so many times; `done` gets the numbers of finished and of all clones."""
        jobs = [(side, batch) for number in range(times) for side in self._kernels for batch in batches(cases, number)]
        tries: dict[tuple[str, str], tuple[TryResult, ...]] = {}
        # A machine dies with the thread that started it, so these threads live until all are done.
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                futures = [pool.submit(self._ask, side, batch) for side, batch in jobs]
                for count, future in enumerate(as_completed(futures), start=1):
                    for key, symptom in future.result():
                        tries[key] = (*tries.get(key, ()), symptom)
                    done(count, len(futures))
            except BaseException:
                self._over.set()
                end_all()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return tries

    def _ask(self, side: str, batch: Sequence[Case]) -> list[tuple[tuple[str, str], TryResult]]:
        """Ask one kernel some cases in one fresh clone; in another after a case that killed it."""
        pool = self._new()
        found = []
        try:
            for case in batch:
                if self._over.is_set():
                    break
                _, record = examine(pool, side, case, self._lists, _ONCE)
                event = case_event(record, "", {side: self._kernels[side].spec}, "")
                found.append(((side, case.id), try_result(event)))
        finally:
            pool.close()
        return found
