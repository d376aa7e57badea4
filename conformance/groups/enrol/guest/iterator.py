# SPDX-License-Identifier: GPL-2.0-only
"""Enrol sockets by BPF iterators: over another map, and over all TCP, UDP or UNIX sockets there are."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from bpf.guest import hooks
from conformance.groups.enrol.guest.setup import EnrolSetup
from conformance.guestlib import child, sockets
from conformance.guestlib.answers import Steps, name_of
from conformance.guestlib.fixture import ImpossibleError
from conformance.guestlib.orders import Orders

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
"""Reads after which an iterator will never end."""


def _load(setup: EnrolSetup, hook: str, map_fd: int, steps: Steps) -> Orders:
    """Load an iterator that enrols in a map; ImpossibleError, and a step that says so, if this kernel has none."""
    try:
        orders = Orders(_PROGRAMS[hook], hook, {"enrolled": map_fd})
    except LookupError:
        steps["load"] = "no such iterator"
        raise ImpossibleError from None
    except OSError as error:
        steps["load"] = name_of(error)
        raise ImpossibleError from error
    steps["load"] = "ok"
    setup.fixture.callback(orders.close)
    return orders


def _run(orders: Orders, map_fd: int | None = None) -> None:
    for _ in hooks.iterate(orders.program, map_fd):
        pass


def _enrolled(orders: Orders, steps: Steps) -> None:
    """Run over all sockets; say how many were found, and what the kernel answered."""
    _run(orders)
    steps["found"] = str(orders.calls())
    steps["enrol"] = orders.answer()


def _describe(orders: Orders, peer: socket.socket, cookie: bytes) -> None:
    """Tell an iterator which socket is meant: the one at the other end of its peer."""
    if peer.family == socket.AF_UNIX:
        orders.give(cookie=int.from_bytes(cookie, sys.byteorder))
    else:
        # Before 5.12 iterators know no cookies, and ports alone are shared with connections that linger.
        orders.give(port=peer.getpeername()[1], remote=peer.getsockname()[1], family=peer.family)


def _copy(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Copy a map that has the socket, two others, and an empty slot between."""
    ours = setup.own(steps)
    source = setup.new_map(params["from"], _ENTRIES)
    steps["insert"] = source.insert(ours)
    others = {2: _udp(setup), 3: _udp(setup)}
    for key, other in others.items():
        source.insert(other, key)
    orders = _load(setup, "iter_sockmap", setup.map, steps)
    _run(orders, source)
    steps["copied"] = str(orders.calls())
    steps["enrol"] = orders.answer()
    steps["lookup"] = setup.looked_up()
    steps["lookup-empty"] = setup.looked_up(1)
    steps["lookup-others"] = _all_right(setup.map.whose(key, other) for key, other in others.items())
    setup.prove(steps)
    if steps["insert"] == "ok":
        steps["delete-original"] = source.delete()
        steps["lookup-copy"] = setup.looked_up()
        ours.close()
        steps["lookup-closed"] = setup.looked_up()


def _changing(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Copy a map one socket at a time, and between two have sockets close, leave, come and be replaced."""
    opened = [_udp(setup) for _ in range(_ENTRIES + 1)]
    cookies = [sockets.cookie_of(each) for each in opened]
    source = setup.new_map(params["from"], _ENTRIES if params["from"] == "sockmap" else _SPARSE)
    copy = setup.new_map(entries=_ENTRIES)
    # The last slot is empty until a socket comes.
    for key in range(_LAST):
        source.insert(opened[key], key)
    orders = _load(setup, "iter_sockmap", copy, steps)
    orders.give(wanted=1)
    reads = hooks.iterate(orders.program, source)
    for _ in range(4):
        next(reads)
    visited = [key for key in range(_LAST) if isinstance(copy.cookie(key), bytes)]
    coming = [key for key in range(_LAST) if key not in visited]
    steps["visited"] = str(len(visited))
    opened[visited[0]].close()
    opened[coming[-1]].close()
    source.delete(coming[-2])
    source.insert(opened[_ENTRIES], coming[-3])
    cookies[coming[-3]] = cookies[_ENTRIES]
    source.insert(opened[_LAST], _LAST)
    steps["ends"] = _finish(reads)
    found = [copy.whose(key, cookie) for key, cookie in enumerate(cookies[:_ENTRIES])]
    steps["closed-visited"] = found[visited[0]]
    steps["closed-coming"] = found[coming[-1]]
    steps["deleted"] = found[coming[-2]]
    steps["replaced"] = found[coming[-3]]
    steps["all-others"] = _all_right(found[key] for key in (*visited[1:], *coming[:-3]))
    if params["from"] == "sockmap":
        # A hash gives no order; whether what comes meanwhile is found is chance.
        steps["added"] = found[_LAST]


def _all(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Find another process's socket among all of its protocol."""
    owner = setup.make_child()
    setup.meet(owner, steps)
    orders = _load(setup, params["hook"], setup.map, steps)
    _describe(orders, setup.peer, owner.cookie)
    _enrolled(orders, steps)
    steps["lookup"] = setup.looked_up()
    setup.prove(steps)
    owner.close()
    steps["lookup-closed"] = setup.looked_up()


def _listener(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Find another process's listener, which accepts as before."""
    owner = setup.make_child()
    address = owner.own("listen", params["kind"])
    setup.cookie = owner.cookie
    orders = _load(setup, params["hook"], setup.map, steps)
    orders.give(port=address[1], family=sockets.address_of(params["kind"])[0])
    _enrolled(orders, steps)
    steps["lookup"] = setup.looked_up()
    client = sockets.fresh(params["kind"])
    client.connect(address)
    owner.own("accept")
    setup.face(owner, client)
    setup.use(steps)


def _time_wait(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Find what is left of a closed connection, which is no socket any more."""
    first, second = sockets.pair(params["kind"])
    orders = _load(setup, params["hook"], setup.map, steps)
    _describe(orders, second, b"")
    first.close()
    second.close()
    setup.settle()
    _enrolled(orders, steps)
    steps["lookup"] = setup.looked_up()


def _churn(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Iterate while another process opens and closes sockets: one that stays is found every time."""
    churner = child.shared()
    ours = setup.own(steps)
    orders = _load(setup, params["hook"], setup.map, steps)
    _describe(orders, setup.peer, sockets.cookie_of(ours))
    churner.order("churn", params["kind"], _ROUNDS)
    runs = 0
    while True:
        _run(orders)
        runs += 1
        if churner.answered():
            break
    churner.answer()
    steps["found"] = "every time" if orders.calls() == runs else f"{orders.calls()} of {runs} times"
    steps["enrol"] = orders.answer()
    steps["lookup"] = setup.looked_up()
    setup.prove(steps)


def _crowded(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Copy a map with several sockets a bucket, one at a time: what a read had no room for is looked for anew."""
    source, copy = setup.new_map(params["from"], _ENTRIES), setup.new_map(entries=_ENTRIES)
    opened = [_udp(setup) for _ in range(_ENTRIES)]
    for key, each in enumerate(opened):
        source.insert(each, key)
    orders = _load(setup, "iter_sockmap", copy, steps)
    orders.give(wanted=1)
    steps["ends"] = _finish(hooks.iterate(orders.program, source))
    found = [copy.whose(key, each) for key, each in enumerate(opened)]
    steps["copied"] = "all" if _all_right(found) == "cookie" else "some"


def _finish(reads: Iterator[int]) -> str:
    for _ in zip(range(_ENOUGH), reads, strict=False):
        pass
    return "no" if next(reads, 0) else "yes"


def _udp(setup: EnrolSetup) -> socket.socket:
    return setup.fixture.enter_context(sockets.bound("udp4"))


def _all_right(found: Iterable[str]) -> str:
    return "cookie" if set(found) == {"cookie"} else "another"


VARIANTS: Final[Mapping[str, Callable[[EnrolSetup, Mapping[str, str], Steps], None]]] = {
    "copy": _copy,
    "changing": _changing,
    "crowded": _crowded,
    "all": _all,
    "listener": _listener,
    "time-wait": _time_wait,
    "churn": _churn,
}


def run(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Enrol as `variant` says."""
    VARIANTS[params["variant"]](setup, params, steps)
