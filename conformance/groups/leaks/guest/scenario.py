# SPDX-License-Identifier: GPL-2.0-only
"""Send many sockets one way out of a map, then see that the kernel keeps nothing of them.

Every other socket leaves a SOCKMAP, the others a SOCKHASH. The Observation is `{"steps": {...}}`: what `insert` and the
`way` answered, `"ok"` or the first errno, then what the books say once the kernel has come to rest: `"balanced"`, or
what there is more of. Of what can be counted exactly, `kept`, nothing may be left; of `memory`, not an object every
fourth round more than as many sockets leave that were never in a map, nor more pages charged than are kept in reserve.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import closing
from contextlib import contextmanager
from contextlib import nullcontext
from typing import Final

from conformance.guestlib import books
from conformance.guestlib import netns
from conformance.guestlib import sockets
from conformance.guestlib.answers import Steps
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import name_of
from conformance.guestlib.books import Books
from conformance.guestlib.books import Growth
from conformance.guestlib.sock_diag import Lister
from conformance.guestlib.ways_out import ENDS_STAGE
from conformance.guestlib.ways_out import WAYS
from conformance.guestlib.ways_out import Stage
from conformance.guestlib.ways_out import end
from conformance.guestlib.ways_out import talk

_WARM_UPS: Final = 2
_MAPS: Final = ("sockmap", "sockhash")
_PATIENCE: Final = 4.0
"""Seconds for the kernel to come to rest."""
_PAUSE: Final = 0.002
_TRIES: Final = 3
"""A leak is there each time; what other processes do on a machine that is not ours alone is not."""
_NAMED: Final = 6
"""Growths to tell of, the largest first."""


_bounds: dict[tuple[str, int], Growth] = {}
"""By how much memory grows without maps, by kind and rounds; asked once in a process."""


class Account:
    """The books of this thread's namespace, opened now; `patience` is how long the kernel may take to come to rest."""

    def __init__(self, lister: Lister, patience: float = _PATIENCE) -> None:
        self._patience = patience
        # First, because it opens what it empties caches by.
        self._memory = books.memory()
        self._books = Books(lister)

    def kept(self) -> Growth:
        """Wait until nothing countable is left; say what is nevertheless."""
        # kfree_rcu() then lets go of its objects before memory is counted, and that need not be done twice.
        books.release_memory()
        return _at_rest(self._books.left, _collect_garbage, self._patience)

    def memory(self, bounds: Mapping[str, int], slack: int) -> Growth:
        """Wait until memory has grown by no more than a bound and some slack; say what has nevertheless."""

        def beyond() -> Growth:
            grown = books.more(books.memory(), self._memory)
            return {
                name: count
                for name, count in grown.items()
                if count > bounds.get(name, 0) + (books.RESERVE if name.startswith(books.CHARGED) else slack)
            }

        return _at_rest(beyond, books.release_memory, self._patience)


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Send `rounds` sockets of a `kind` the `way` out."""
    kind, rounds = params["kind"], int(params["rounds"])
    steps: Steps = {}
    with netns.inside(netns.ours()), closing(Lister()) as lister:
        try:
            bounds = _without_maps(lister, kind, rounds)
        except OSError as error:
            return {"steps": {"available": name_of(error)}}
        if not _send_out(params["way"], kind, _WARM_UPS, steps):
            return {"steps": steps}
        grown: Growth | None = None
        for _ in range(_TRIES):
            account = Account(lister)
            _send_out(params["way"], kind, rounds, steps)
            kept = account.kept()
            found = account.memory(bounds, rounds // 4)
            grown = found if grown is None else {name: min(grown[name], found[name]) for name in grown if name in found}
            if kept or not grown:
                break
        steps |= {"kept": told(kept), "memory": told(grown or {})}
    return {"steps": steps}


def _send_out(way: str, kind: str, rounds: int, steps: Steps) -> bool:
    """Send that many sockets the way out; whether there is such a way."""
    stages: dict[str, Stage] = {}
    try:
        for number in range(rounds):
            map_type = _MAPS[number % len(_MAPS)]
            stage = stages.get(map_type) or stages.setdefault(map_type, Stage(kind, map_type))
            with _pair(kind, passing=way == "namespace-destroyed") as pair:
                steps["insert"] = attempt(stage.enter, pair[0], len(stage.wards))
                if steps["insert"] != "ok":
                    return False
                talk(*pair)
                steps["way"] = attempt(WAYS[way], stage, *pair)
                if steps["way"] != "ok":
                    return False
                if way in ENDS_STAGE:
                    del stages[map_type]
    finally:
        for stage in stages.values():
            stage.close()
        sockets.close_listeners()
    return True


@contextmanager
def _pair(kind: str, *, passing: bool = False) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a pair, in a namespace that goes with it if that is wanted."""
    with netns.passing() if passing else nullcontext():
        ours, peer = sockets.pair(kind)
    try:
        yield ours, peer
    finally:
        end(kind, ours, peer)


def _without_maps(lister: Lister, kind: str, rounds: int) -> Growth:
    """Say by how much memory grows when as many sockets are used that are in no map."""
    if (kind, rounds) not in _bounds:
        _use(kind, _WARM_UPS)
        account = Account(lister)
        _use(kind, rounds)
        account.kept()
        _bounds[kind, rounds] = account.memory({}, rounds // 4)
    return _bounds[kind, rounds]


def _use(kind: str, rounds: int) -> None:
    for _ in range(rounds):
        with _pair(kind) as pair:
            talk(*pair)
    sockets.close_listeners()


def _at_rest(look: Callable[[], Growth], help_along: Callable[[], None], patience: float) -> Growth:
    """Look until there is nothing to see, or for long no less of it than before."""
    least, deadline = math.inf, 0.0
    while found := look():
        if sum(found.values()) < least:
            least, deadline = sum(found.values()), time.monotonic() + patience
        elif time.monotonic() > deadline:
            break
        help_along()
        time.sleep(_PAUSE)
    return found


def _collect_garbage() -> None:
    """Close a UNIX socket: only then the kernel looks for those that are in messages to each other."""
    for each in socket.socketpair():
        each.close()


def told(growth: Growth) -> str:
    """Name what there is more of, the most of it first; `"balanced"` if nothing."""
    largest = sorted(growth.items(), key=lambda item: -item[1])[:_NAMED]
    return ", ".join(f"{count} {name}" for name, count in largest) or "balanced"
