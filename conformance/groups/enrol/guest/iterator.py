# SPDX-License-Identifier: GPL-2.0-only
"""Enrol sockets by BPF iterators: over another map, and over all TCP, UDP or UNIX sockets there are."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import closing
from contextlib import contextmanager
from typing import Final

from bpf.guest import hooks
from bpf.guest import syscall
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.orders import Orders
from conformance.guestlib.owner import Here
from conformance.guestlib.owner import another
from conformance.guestlib.proof import ImpossibleError
from conformance.guestlib.proof import Proof
from conformance.guestlib.proof import possible
from conformance.guestlib.servant import cookie_of

Steps = dict[str, str]

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


@contextmanager
def _loaded(hook: str, map_fd: int, steps: Steps) -> Iterator[Orders]:
    """Load an iterator that enrols in a map; ImpossibleError, and a step that says so, if this kernel has none."""
    try:
        orders = Orders(_PROGRAMS[hook], hook, {"enrolled": map_fd})
    except LookupError:
        steps["load"] = "no such iterator"
        raise ImpossibleError from None
    except OSError as error:
        steps["load"] = error_name(error.errno or 0)
        raise ImpossibleError from error
    steps["load"] = "ok"
    with closing(orders):
        yield orders


def _run(orders: Orders, map_fd: int | None = None) -> None:
    for _ in hooks.iterate(orders.program, map_fd):
        pass


def _describe(orders: Orders, peer: socket.socket, cookie: bytes) -> None:
    """Tell an iterator which socket is meant: the one at the other end of its peer."""
    if peer.family == socket.AF_UNIX:
        orders.give(cookie=int.from_bytes(cookie, sys.byteorder))
    else:
        # Before 5.12 iterators know no cookies, and ports alone are shared with connections that linger.
        orders.give(port=peer.getpeername()[1], remote=peer.getsockname()[1], family=peer.family)


def _copy(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Copy a map that has the socket, two others, and an empty slot between."""
    with ExitStack() as stack:
        with possible(steps):
            ours, peer = sockets.pair(params["kind"])
        owner = stack.enter_context(closing(Here(ours, params["kind"])))
        proof.introduce(owner, peer)
        source = proof.new_map(params["from"], _ENTRIES)
        steps["insert"] = attempt(syscall.update_wide, source, 0, ours.fileno())
        others = {2: _udp(stack), 3: _udp(stack)}
        for key, other in others.items():
            syscall.update_wide(source, key, other.fileno())
        orders = stack.enter_context(_loaded("iter_sockmap", proof.map, steps))
        _run(orders, source)
        steps["copied"] = str(orders.calls())
        steps["enrol"] = orders.answer()
        steps["lookup"] = proof.looked_up()
        steps["lookup-empty"] = proof.looked_up(1)
        steps["lookup-others"] = _both(proof.found(key) == cookie_of(other) for key, other in others.items())
        proof.prove(steps)
        if steps["insert"] == "ok":
            steps["delete-original"] = attempt(syscall.delete, source, 0)
            steps["lookup-copy"] = proof.looked_up()
            owner.close()
            steps["lookup-closed"] = proof.looked_up()


def _changing(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Copy a map one socket at a time, and between two have sockets close, leave, come and be replaced."""
    with ExitStack() as stack:
        opened = [_udp(stack) for _ in range(_ENTRIES + 1)]
        cookies = [cookie_of(each) for each in opened]
        source = proof.new_map(params["from"], _ENTRIES if params["from"] == "sockmap" else _SPARSE)
        copy = proof.new_map(params["map"], _ENTRIES)
        # The last slot is empty until a socket comes.
        for key in range(_LAST):
            syscall.update_wide(source, key, opened[key].fileno())
        orders = stack.enter_context(_loaded("iter_sockmap", copy, steps))
        orders.give(wanted=1)
        reads = hooks.iterate(orders.program, source)
        for _ in range(4):
            next(reads)
        visited = [key for key in range(_LAST) if isinstance(proof.found(key, copy), bytes)]
        coming = [key for key in range(_LAST) if key not in visited]
        steps["visited"] = str(len(visited))
        opened[visited[0]].close()
        opened[coming[-1]].close()
        syscall.delete(source, coming[-2])
        syscall.update_wide(source, coming[-3], opened[_ENTRIES].fileno())
        cookies[coming[-3]] = cookies[_ENTRIES]
        syscall.update_wide(source, _LAST, opened[_LAST].fileno())
        steps["ends"] = _finish(reads)
        found = {key: proof.found(key, copy) for key in range(_ENTRIES)}
        steps["closed-visited"] = _say(found[visited[0]], cookies[visited[0]])
        steps["closed-coming"] = _say(found[coming[-1]], cookies[coming[-1]])
        steps["deleted"] = _say(found[coming[-2]], cookies[coming[-2]])
        steps["replaced"] = _say(found[coming[-3]], cookies[coming[-3]])
        steps["all-others"] = _both(found[key] == cookies[key] for key in (*visited[1:], *coming[:-3]))
        if params["from"] == "sockmap":
            # A hash gives no order; whether what comes meanwhile is found is chance.
            steps["added"] = _say(found[_LAST], cookies[_LAST])


def _all(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Find another process's socket among all of its protocol."""
    owner = another()
    with closing(owner):
        proof.meet(owner, steps)
        with _loaded(params["hook"], proof.map, steps) as orders:
            _describe(orders, proof.peer, owner.cookie)
            _run(orders)
            steps["found"] = str(orders.calls())
            steps["enrol"] = orders.answer()
        steps["lookup"] = proof.looked_up()
        proof.prove(steps)
        owner.close()
        steps["lookup-closed"] = proof.looked_up()


def _listener(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Find another process's listener, which accepts as before."""
    owner = another()
    with closing(owner):
        address = owner.listen(params["kind"])
        proof.cookie = owner.cookie
        with _loaded(params["hook"], proof.map, steps) as orders:
            orders.give(port=address[1], family=sockets.address_of(params["kind"])[0])
            _run(orders)
            steps["found"] = str(orders.calls())
            steps["enrol"] = orders.answer()
        steps["lookup"] = proof.looked_up()
        client = sockets.fresh(params["kind"])
        client.connect(address)
        owner.accept()
        proof.face(owner, client)
        steps["send"] = proof.sent()
        steps["receive"] = proof.received()


def _time_wait(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Find what is left of a closed connection, which is no socket any more."""
    first, second = sockets.pair(params["kind"])
    with _loaded(params["hook"], proof.map, steps) as orders:
        _describe(orders, second, b"")
        first.close()
        second.close()
        proof.settle()
        _run(orders)
        steps["found"] = str(orders.calls())
        steps["enrol"] = orders.answer()
    steps["lookup"] = proof.looked_up()


def _churn(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Iterate while another process opens and closes sockets: one that stays is found every time."""
    churner = another()
    with closing(churner), ExitStack() as stack:
        with possible(steps):
            ours, peer = sockets.pair(params["kind"])
        owner = stack.enter_context(closing(Here(ours, params["kind"])))
        proof.introduce(owner, peer)
        orders = stack.enter_context(_loaded(params["hook"], proof.map, steps))
        _describe(orders, peer, owner.cookie)
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
        steps["lookup"] = proof.looked_up()
        proof.prove(steps)


def _crowded(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Copy a map with several sockets a bucket, one at a time: what a read had no room for is looked for anew."""
    with ExitStack() as stack:
        source, copy = proof.new_map(params["from"], _ENTRIES), proof.new_map(params["map"], _ENTRIES)
        opened = [_udp(stack) for _ in range(_ENTRIES)]
        for key, each in enumerate(opened):
            syscall.update_wide(source, key, each.fileno())
        orders = stack.enter_context(_loaded("iter_sockmap", copy, steps))
        orders.give(wanted=1)
        steps["ends"] = _finish(hooks.iterate(orders.program, source))
        copied = sum(proof.found(key, copy) == cookie_of(each) for key, each in enumerate(opened))
        steps["copied"] = "all" if copied == _ENTRIES else "some"


def _finish(reads: Iterator[int]) -> str:
    for _ in zip(range(_ENOUGH), reads, strict=False):
        pass
    return "no" if next(reads, 0) else "yes"


def _udp(stack: ExitStack) -> socket.socket:
    return stack.enter_context(sockets.bound("udp4"))


def _say(found: bytes | str, cookie: bytes) -> str:
    return found if isinstance(found, str) else "cookie" if found == cookie else "another cookie"


def _both(right: Iterator[bool]) -> str:
    return "cookie" if all(right) else "another"


VARIANTS: Final[Mapping[str, Callable[[Proof, Mapping[str, str], Steps], None]]] = {
    "copy": _copy,
    "changing": _changing,
    "crowded": _crowded,
    "all": _all,
    "listener": _listener,
    "time-wait": _time_wait,
    "churn": _churn,
}


def run(params: Mapping[str, str], steps: Steps) -> None:
    """Enrol as `variant` says."""
    with closing(Proof(params)) as proof:
        VARIANTS[params["variant"]](proof, params, steps)
