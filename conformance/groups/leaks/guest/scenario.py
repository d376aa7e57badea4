# SPDX-License-Identifier: GPL-2.0-only
"""Send many sockets one way out of a map, then see that the kernel keeps nothing of them.

Every other socket leaves a SOCKMAP, the others a SOCKHASH. The Observation is `{"steps": {...}}`: what `insert` and the
`way` answered, `"ok"` or the first errno, then what the counters say once the kernel has come to rest: `"balanced"`, or
what there is more of. Of what can be counted exactly, `kept`, nothing may be left; of `memory`, not an object every
fourth round more than as many sockets leave that were never in a map, nor more pages charged than are kept in reserve.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from typing import Final

from conformance.guestlib import netns, sockets
from conformance.guestlib.answers import Steps, attempt, name_of
from conformance.guestlib.counters import Growth, Snapshot, growth_text
from conformance.guestlib.map_pair import ENDS_MAPS, MapPair, Member, end, talk
from conformance.guestlib.sock_diag import Lister

_WARM_UPS: Final = 2
_MAPS: Final = ("sockmap", "sockhash")
_PATIENCE: Final = 4.0
"""Seconds for the kernel to come to rest."""
_TRIES: Final = 3
"""A leak is there each time, also in twice as many rounds; what other processes do on a host is not."""
_bounds: dict[tuple[str, int], Growth] = {}
"""By how much memory grows without maps, by kind and rounds; asked once in a process."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Send `rounds` sockets of a `kind` the `way` out."""
    kind, rounds = params["kind"], int(params["rounds"])
    steps: Steps = {}
    with netns.inside(netns.ours()), closing(Lister()) as lister:
        try:
            _without_maps(lister, kind, rounds)
        except OSError as error:
            return {"steps": {"available": name_of(error)}}
        if not _send_out(params["way"], kind, _WARM_UPS, steps):
            return {"steps": steps}
        grown: Growth | None = None
        for _ in range(_TRIES):
            bounds = _without_maps(lister, kind, rounds)
            before = Snapshot(lister, _PATIENCE)
            _send_out(params["way"], kind, rounds, steps)
            kept = before.kept()
            found = before.memory(bounds, rounds // 4)
            grown = found if grown is None else {name: min(grown[name], found[name]) for name in grown if name in found}
            if kept or not grown:
                break
            rounds = 2 * int(params["rounds"])
        steps |= {"kept": growth_text(kept), "memory": growth_text(grown or {})}
    return {"steps": steps}


def _send_out(way: str, kind: str, rounds: int, steps: Steps) -> bool:
    """Send that many sockets the way out; whether there is such a way."""
    pairs: dict[str, MapPair] = {}
    try:
        for number in range(rounds):
            map_type = _MAPS[number % len(_MAPS)]
            pair = pairs.get(map_type) or pairs.setdefault(map_type, MapPair(kind, map_type))
            with _sockets(kind, passing=way == "namespace-destroyed") as ends:
                steps["insert"] = attempt(pair.enter, ends[0], len(pair.orphans))
                if steps["insert"] != "ok":
                    return False
                talk(*ends)
                steps["way"] = attempt(Member(pair, *ends).leave, way)
                if steps["way"] != "ok":
                    return False
                if way in ENDS_MAPS:
                    del pairs[map_type]
    finally:
        for pair in pairs.values():
            pair.close()
        sockets.close_listeners()
    return True


@contextmanager
def _sockets(kind: str, *, passing: bool = False) -> Iterator[tuple[socket.socket, socket.socket]]:
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
        before = Snapshot(lister, _PATIENCE)
        _use(kind, rounds)
        before.kept()
        _bounds[kind, rounds] = before.memory({}, rounds // 4)
    return _bounds[kind, rounds]


def _use(kind: str, rounds: int) -> None:
    for _ in range(rounds):
        with _sockets(kind) as ends:
            talk(*ends)
    sockets.close_listeners()
