# SPDX-License-Identifier: GPL-2.0-only
"""Enrol sockets by BPF iterators: over another map, and over all TCP, UDP or UNIX sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from bpf.guest import hooks
from conformance.groups.enrol.guest.setup import EnrolSetup
from conformance.guestlib import child, sockets
from conformance.guestlib.answers import by_name, name_of
from conformance.guestlib.fixture import ImpossibleError, Map, Orders

_PROGRAMS = {
    "iter_sockmap": "iter_sockmap_copy",
    "iter_tcp": "iter_tcp_enrol",
    "iter_udp": "iter_tcp_enrol",
    "iter_unix": "iter_unix_enrol",
}
_ENTRIES = 16
_LAST = _ENTRIES - 1
_SPARSE = 1024
"""Entries of a SOCKHASH in which our keys have a bucket each; its hash is not seeded."""
_ROUNDS = 10
"""Pairs of sockets to open and close during iterations."""
_ENOUGH = 8 * _ENTRIES
"""Reads after which an iterator counts as endless."""


def _load(setup: EnrolSetup, hook: str, enrolled: Map) -> Orders:
    """Load an iterator that enrols in a map; ImpossibleError, and a step that says so, if this kernel has none."""
    try:
        orders = Orders(setup.fixture, _PROGRAMS[hook], hook, {"enrolled": enrolled})
    except (LookupError, OSError) as error:
        setup.steps["load"] = name_of(error) if isinstance(error, OSError) else "no such iterator"
        raise ImpossibleError from error
    setup.steps["load"] = "ok"
    return orders


def _run(orders: Orders, source: Map | None = None) -> str:
    """Run over a map, or all sockets; return how many were found."""
    for _ in hooks.iterate(orders.program, source):
        pass
    return str(orders.calls())


def _look(setup: EnrolSetup, orders: Orders) -> None:
    """Say what the kernel answered, and see whether the socket is in the map."""
    setup.steps["enrol"] = orders.answer()
    setup.look()


def _search(setup: EnrolSetup, orders: Orders) -> None:
    """Run over all sockets; say how many were found, and what became of them."""
    setup.steps["found"] = _run(orders)
    _look(setup, orders)


def _load_for(setup: EnrolSetup, peer: socket.socket, cookie: bytes) -> Orders:
    """Load the iterator over all sockets, and tell it which is meant: the one at the other end of its peer."""
    orders = _load(setup, setup.params["hook"], setup.map)
    if peer.family == socket.AF_UNIX:
        orders.give(cookie=int.from_bytes(cookie, sys.byteorder))
    else:
        # Before 5.12 iterators have no cookies, and lingering connections may share the ports.
        orders.give(port=peer.getpeername()[1], remote=peer.getsockname()[1], family=peer.family)
    return orders


def _copy(setup: EnrolSetup) -> None:
    """Copy a map that has the socket, two others, and an empty slot between."""
    ours = setup.own()
    source = setup.new_map(setup.params["from"], _ENTRIES)
    setup.steps["insert"] = source.insert(ours)
    others = {2: _udp(setup), 3: _udp(setup)}
    for key, other in others.items():
        source.insert(other, key)
    orders = _load(setup, "iter_sockmap", setup.map)
    setup.steps["copied"] = _run(orders, source)
    _look(setup, orders)
    setup.look("-empty", 1)
    setup.steps["lookup-others"] = _all_right(setup.map.whose(key, other) for key, other in others.items())
    setup.prove()
    if setup.steps["insert"] == "ok":
        setup.steps["delete-original"] = source.delete()
        setup.look("-copy")
        ours.close()
        setup.look("-closed")


def _changing(setup: EnrolSetup) -> None:
    """Copy a map one socket at a time, and between two have sockets close, leave, come and be replaced."""
    opened = [_udp(setup) for _ in range(_ENTRIES + 1)]
    cookies = [sockets.cookie_of(each) for each in opened]
    source = setup.new_map(setup.params["from"], _ENTRIES if setup.params["from"] == "sockmap" else _SPARSE)
    copy = setup.new_map(entries=_ENTRIES)
    # The last slot is empty until a socket comes.
    for key in range(_LAST):
        source.insert(opened[key], key)
    orders = _load(setup, "iter_sockmap", copy)
    orders.give(wanted=1)
    reads = hooks.iterate(orders.program, source)
    for _ in range(4):
        next(reads)
    visited = [key for key in range(_LAST) if isinstance(copy.cookie(key), bytes)]
    coming = [key for key in range(_LAST) if key not in visited]
    setup.steps["visited"] = str(len(visited))
    opened[visited[0]].close()
    opened[coming[-1]].close()
    source.delete(coming[-2])
    source.insert(opened[_ENTRIES], coming[-3])
    cookies[coming[-3]] = cookies[_ENTRIES]
    source.insert(opened[_LAST], _LAST)
    setup.steps["ends"] = _finish(reads)
    found = [copy.whose(key, cookie) for key, cookie in enumerate(cookies[:_ENTRIES])]
    setup.steps["closed-visited"] = found[visited[0]]
    setup.steps["closed-coming"] = found[coming[-1]]
    setup.steps["deleted"] = found[coming[-2]]
    setup.steps["replaced"] = found[coming[-3]]
    setup.steps["all-others"] = _all_right(found[key] for key in (*visited[1:], *coming[:-3]))
    if setup.params["from"] == "sockmap":
        # A hash gives no order; whether what comes meanwhile is found is chance.
        setup.steps["added"] = found[_LAST]


def _all(setup: EnrolSetup) -> None:
    """Find another process's socket among all of its protocol."""
    owner = setup.make_child()
    setup.make_in_child(owner)
    _search(setup, _load_for(setup, setup.peer, owner.cookie))
    setup.prove()
    owner.close()
    setup.look("-closed")


def _listener(setup: EnrolSetup) -> None:
    """Find another process's listener, which accepts as before."""
    owner = setup.make_child()
    address = setup.make_listener_in_child(owner)
    orders = _load(setup, setup.params["hook"], setup.map)
    orders.give(port=address[1], family=sockets.SORTS[setup.kind][0])
    _search(setup, orders)
    setup.meet_accepted(owner, address)
    setup.use()


def _time_wait(setup: EnrolSetup) -> None:
    """Find what is left of a closed connection, which is not a socket any more."""
    first, second = sockets.pair(setup.kind)
    # `first` is closed first, so its connection enters TIME_WAIT.
    with second, first:
        orders = _load_for(setup, second, b"")
    setup.settle()
    _search(setup, orders)


def _churn(setup: EnrolSetup) -> None:
    """Iterate while another process opens and closes sockets: one that stays is found every time."""
    churner = child.shared()
    ours = setup.own()
    orders = _load_for(setup, setup.peer, sockets.cookie_of(ours))
    churner.order("churn", setup.kind, _ROUNDS)
    runs = 0
    while True:
        _run(orders)
        runs += 1
        if churner.answered():
            break
    churner.answer()
    setup.steps["found"] = "every time" if orders.calls() == runs else f"{orders.calls()} of {runs} times"
    _look(setup, orders)
    setup.prove()


def _crowded(setup: EnrolSetup) -> None:
    """Copy a map with several sockets a bucket; each read(2) has room for one, the next looks up the others again."""
    source, copy = setup.new_map(setup.params["from"], _ENTRIES), setup.new_map(entries=_ENTRIES)
    opened = [_udp(setup) for _ in range(_ENTRIES)]
    for key, each in enumerate(opened):
        source.insert(each, key)
    orders = _load(setup, "iter_sockmap", copy)
    orders.give(wanted=1)
    setup.steps["ends"] = _finish(hooks.iterate(orders.program, source))
    found = [copy.whose(key, each) for key, each in enumerate(opened)]
    setup.steps["copied"] = "all" if _all_right(found) == "cookie" else "some"


def _finish(reads: Iterator[int]) -> str:
    for _ in zip(range(_ENOUGH), reads, strict=False):
        pass
    return "no" if next(reads, 0) else "yes"


def _udp(setup: EnrolSetup) -> socket.socket:
    return setup.fixture.enter_context(sockets.bound("udp4"))


def _all_right(found: Iterable[str]) -> str:
    return "cookie" if set(found) == {"cookie"} else "another"


VARIANTS: Final = by_name(_copy, _changing, _crowded, _all, _listener, _time_wait, _churn)
