# SPDX-License-Identifier: GPL-2.0-only
"""Send sockets every way out of their maps from several threads, while others send and receive through them.

An IN socket is in each source map, an OUT socket in each target map. A random generator with a seed chooses the
actions of each thread; their timing is not repeatable.

The Observation is `{"steps": {...}}`: the answer of `insert`, the state of the `threads`, whether `traffic` flowed.
Then come `kept` and `memory` as for `leaks`, unless a stuck thread still holds sockets or maps.
"""

from __future__ import annotations

import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from typing import Final

from bpf.guest import syscall
from conformance.guestlib import netns, procfs, sockets
from conformance.guestlib.answers import Steps, attempt, name_of
from conformance.guestlib.counters import Snapshot, growth_text
from conformance.guestlib.map_pair import ENDS_MAPS, WAYS, MapPair, Member, end
from conformance.guestlib.quiesce import fences
from conformance.guestlib.sock_diag import Lister
from conformance.guestlib.ways_out import WITHOUT_WAITING

_BREAKERS: Final = 2
_TALKERS: Final = 2
_WARM_UP: Final = 0.5
"""Seconds."""
_PATIENCE: Final = 10.0
"""Seconds until a thread counts as stuck, and an object as leaked: two vsock sockets may take 8."""
_SLACK: Final = 64
"""Objects that a slab cache may gain: the random actions differ before and after."""
_LARGEST: Final = 4096
_RUNS: Final = "stuck running"
_WAITS_FOR_US: Final = "stuck in futex_"
_SYSRQ: Final = "/proc/sysrq-trigger"
_RUNNING_AND_BLOCKED: Final = "lw"
"""Documentation/admin-guide/sysrq.rst: the stacks of all CPUs and of blocked tasks."""
_BUDGETS: Final = (0, 1 << 10, 1 << 40)
# Threads that create sockets would compete for the listeners, so replacing is done here.
_WAYS: Final = tuple(way for way in WAYS if way not in ("namespace-destroyed", "replace"))


class HammerSetup:
    """A pair of maps with sockets in both, any of which any thread may close at any time."""

    def __init__(self, kinds: tuple[str, str], map_type: str, *, parser: bool) -> None:
        self._kinds, self._map_type, self._parser = kinds, map_type, parser
        self.ends: list[socket.socket] = []
        self.renew(0)
        self.renew(1)
        self.maps = self._new_maps()

    def pair(self, which: int) -> list[socket.socket]:
        """Return a socket and its peer: 0 is IN, 1 is OUT."""
        return self.ends[which * 2 : which * 2 + 2]

    def renew(self, which: int) -> None:
        """Replace a pair by a new one."""
        old = self.pair(which)
        self.ends[which * 2 : which * 2 + 2] = sockets.pair(self._kinds[which])
        if old:
            end(self._kinds[which], *old)

    def renew_maps(self) -> None:
        """Replace the maps and programs by new ones."""
        old, self.maps = self.maps, self._new_maps()
        old.close()

    def enter(self) -> None:
        """Insert both sockets."""
        self.maps.enter(self.ends[0], target=self.ends[2])

    def close(self) -> None:
        """Close everything."""
        for which, kind in enumerate(self._kinds):
            end(kind, *self.pair(which))
        self.maps.close()

    def _new_maps(self) -> MapPair:
        made = MapPair(self._kinds[0], self._map_type, parser=self._parser)
        # Load it now: concurrent threads would load it more than once.
        assert made.spare
        return made


class Stress:
    """Some setups and the threads on them."""

    def __init__(self, setups: Sequence[HammerSetup], seed: str) -> None:
        self._setups, self._seed = setups, seed
        self._end = 0.0
        self._turn = threading.Lock()
        self.received = 0
        self.failures: list[str] = []

    def run(self, seconds: float) -> str:
        """Run the threads; returns `"ended"`, or which threads failed or are stuck."""
        self._end = time.monotonic() + seconds
        actions = [self._break] * _BREAKERS + [self._talk] * _TALKERS + [self._wait]
        threads = [
            threading.Thread(target=self._do, args=(action, random.Random(f"{self._seed} {number}")), daemon=True)
            for number, action in enumerate(actions)
        ]
        # Creating fences pins this thread and its children to one processor; a spinning thread must not block this one.
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self._end + _PATIENCE - time.monotonic()))
        stuck = {_whereabouts(thread) for thread in threads if thread.is_alive()}
        if stuck:
            _log_backtraces()
        else:
            os.sched_setaffinity(0, ours)
        return ", ".join([*_culprits(stuck), *dict.fromkeys(self.failures)]) or "ended"

    def _do(self, action: Callable[[HammerSetup, random.Random], None], rng: random.Random) -> None:
        try:
            while time.monotonic() < self._end:
                # Another thread closed or filled it; poll() raises ValueError for a closed one.
                with suppress(OSError, ValueError, IndexError):
                    action(rng.choice(self._setups), rng)
        except Exception as error:
            self.failures.append(f"raised {error!r}")

    def _break(self, setup: HammerSetup, rng: random.Random) -> None:
        way, which = rng.choice(_WAYS), rng.randrange(2)
        with suppress(OSError):
            Member(setup.maps, *setup.pair(which)).leave(way)
        with suppress(OSError):
            setup.maps.enter(rng.choice(setup.ends), target=rng.choice(rng.choice(self._setups).ends))
        # Only one thread at a time creates sockets and programs.
        with self._turn:
            setup.renew(which)
            if way in ENDS_MAPS:
                setup.renew_maps()
            setup.enter()

    def _talk(self, setup: HammerSetup, rng: random.Random) -> None:
        setup.maps.order(rng.choice((0, syscall.F_INGRESS)), rng.choice(_BUDGETS))
        for _ in range(4):
            rng.choice(setup.ends).send(bytes(rng.randrange(1, _LARGEST)), WITHOUT_WAITING)
            self._receive(rng.choice(setup.ends))

    def _wait(self, setup: HammerSetup, rng: random.Random) -> None:
        waiting = select.poll()
        for each in setup.ends:
            waiting.register(each, select.POLLIN | select.POLLRDHUP)
        if waiting.poll(rng.randrange(20)):
            for each in setup.ends:
                self._receive(each)

    def _receive(self, one: socket.socket) -> None:
        with suppress(OSError):
            self.received += len(one.recv(2 * _LARGEST, WITHOUT_WAITING))


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Stress maps with sockets of the kinds `in` and `out` for `seconds`, with actions chosen by `seed`."""
    kinds = params["in"], params["out"]
    steps: Steps = {}
    # Created here, so that they use one processor as in other cases, and outlive the threads.
    fences()
    with netns.inside(netns.ours()), closing(Lister()) as lister:
        try:
            if not _stress(kinds, params["seed"], _WARM_UP, steps):
                return {"steps": steps}
        except OSError as error:
            return {"steps": {"available": name_of(error)}}
        before = Snapshot(lister, _PATIENCE)
        _stress(kinds, params["seed"], float(params["seconds"]), steps)
        if "stuck" not in steps["threads"]:
            steps |= {"kept": growth_text(before.kept()), "memory": growth_text(before.memory({}, _SLACK))}
    return {"steps": steps}


def _stress(kinds: tuple[str, str], seed: str, seconds: float, steps: Steps) -> bool:
    """Set up, run the threads, and clean up; returns whether this kernel inserts such sockets."""
    parsers = (False, True) if sockets.is_tcp(kinds[0]) else (False,)
    setups: list[HammerSetup] = []
    try:
        setups += (
            HammerSetup(kinds, map_type, parser=parser) for map_type in ("sockmap", "sockhash") for parser in parsers
        )
        for setup in setups:
            steps["insert"] = attempt(setup.enter)
            if steps["insert"] != "ok":
                return False
        stress = Stress(setups, seed)
        steps["threads"] = stress.run(seconds)
        steps["traffic"] = "flowed" if stress.received else "none"
    finally:
        # Sockets of a stuck thread may not be closable; this process is not used again.
        if "stuck" not in steps.get("threads", ""):
            for setup in setups:
                setup.close()
            sockets.close_listeners()
    return True


def _culprits(stuck: Collection[str]) -> list[str]:
    """Return the threads that others wait for: leave out those that wait for a turn, or for a busy thread."""
    if _RUNS in stuck:
        return [_RUNS]
    return sorted(where for where in stuck if not where.startswith(_WAITS_FOR_US)) or sorted(stuck)


def _log_backtraces() -> None:
    """Have the kernel log the stacks of all tasks."""
    with suppress(OSError):
        for key in _RUNNING_AND_BLOCKED:
            procfs.write(_SYSRQ, key)


def _whereabouts(thread: threading.Thread) -> str:
    where = procfs.read(f"/proc/self/task/{thread.native_id}/wchan")
    return _RUNS if where in ("", "0") else f"stuck in {where}"
