# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one teardown case: the socket, its peer, its map, and the socket that redirects to it.

The socket is IN (its own program runs), OUT (the program of `near` redirects to it what `far` sends), or both. Every
program of the socket passes all data and counts. The map also has a sentinel: another socket, which stays in the map
and carries only a verdict of this map. When the map is freed, the sentinel loses that verdict. The kernel frees a map
some time after its last reference is dropped.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import NoReturn

from bpf.guest import assemble as asm
from bpf.guest import links, maps, syscall
from conformance.groups.teardown.guest.waiters import Reader
from conformance.guestlib import child, fixture, netns, pidfd, sockets, traffic
from conformance.guestlib.answers import Steps, wait_until
from conformance.guestlib.fixture import Counting, Fixture, Map, State
from conformance.guestlib.quiesce import fences, renew_fences
from conformance.guestlib.traffic import Messages
from conformance.guestlib.waiters import Waiter
from conformance.guestlib.ways_out import Member

SOCKET, SPARE, SENTINEL = 0, 1, 3
"""Keys in the map; the sentinel comes after the socket in the order in which either type of map is freed."""
NO_MAP = Map(-1)
FREEING = ("destroy", "destroy_one", "unpin")
"""The ways out that free the map; the sentinel shows when it is freed."""
CORK = 1 << 12
"""Bytes that a corking program waits for."""
APPLY = 1 << 20
"""Bytes that the verdict of an applying program holds for."""
PATIENCE = 2.0

_VERDICTS = {
    "none": (),
    "msg": ("sk_msg_verdict",),
    "verdict": ("sk_skb_verdict",),
    "parser": ("sk_skb_stream_parser", "sk_skb_stream_verdict"),
}
_HELPERS = {"corked": (62, CORK), "applied": (61, APPLY)}
"""The ids of bpf_msg_cork_bytes and bpf_msg_apply_bytes, and their numbers of bytes."""
_SENTINEL = "tcp4"
"""The kind that carries programs on every kernel."""


class TeardownSetup(Member):
    """The sockets, maps and programs of one case, which its fixture owns."""

    def __init__(self, params: Mapping[str, str], steps: Steps, owned: Fixture, *, mapped: bool = True) -> None:
        """Create the sockets and, unless this is a control, their map."""
        self.fixture = owned
        self.kind, self.map_type = params["kind"], params["map"]
        self.role, self.program, self.data = params["role"], params["program"], params["data"]
        self.redirector: Redirector | None = None
        self.in_flight: dict[str, bytes] = {}
        """The data in flight when the socket leaves, by name."""
        self.waiters: dict[str, Waiter] = {}
        """Threads that wait meanwhile."""
        self.steps = steps
        self.namespace = -1
        """The network namespace of the socket and its peer, if the case destroys it."""
        self.second = NO_MAP
        """Another map that the socket is in."""
        with fixture.possible(steps):
            self.end, self.peer = map(owned.own, self._connected(params["exit"]))
        self.mapped = mapped
        """Whether the socket is inserted into a map; not for a control."""
        self.home = NO_MAP
        """The map that the socket leaves."""
        self.programs: list[tuple[str, Counting]] = []
        """The programs of the map, with their attach types."""
        self.links: list[int] = []
        """The links that hold the programs in the map, if any do."""
        if mapped:
            self._make_map(params["exit"])

    def _make_map(self, way_out: str) -> None:
        self.cookie = sockets.cookie_of(self.end)
        self.home = self.fixture.map(self.map_type)
        # If no step needs it, a cheaper socket will do.
        tells = way_out in FREEING
        self.sentinel = self.fixture.pair(_SENTINEL)[0] if tells else self.fixture.own(sockets.bound("udp4"))
        second = fixture.counting("sk_skb_verdict", "second").descriptor
        held_as = fixture.attach(self.home, second)
        self.home.insert(self.sentinel, SENTINEL)
        syscall.detach(self.home, second, held_as)
        if self.role != "out":
            self.programs = _attach_all(self.home, _programs(self.program, self.data))

    def _connected(self, way_out: str) -> tuple[socket.socket, socket.socket]:
        if way_out == "namespace":
            self.namespace = self.fixture.keep(netns.fresh())
            with netns.inside(self.namespace):
                return sockets.pair(self.kind)
        if way_out not in ("stolen", "killed"):
            return sockets.pair(self.kind)
        self.owner = child.for_case(self.fixture, private=way_out == "killed")
        peer = child.make_connected(self.owner, self.kind)
        return socket.socket(fileno=pidfd.steal_from(self.owner.pid, self.owner.number)), peer

    def meanwhile(self) -> None:
        """Record the entry of the map while something still keeps the socket."""
        if self.mapped:
            self.steps["kept"] = self.found(self.home, SOCKET)

    def delete(self) -> None:
        """Delete the entry."""
        syscall.delete(self.home, SOCKET)

    def put(self, one: socket.socket) -> None:
        """Insert a socket in the place of this one."""
        syscall.update_wide(self.home, SOCKET, one.fileno())

    def enter_second(self) -> None:
        """Insert the socket into another map, too, which has no programs."""
        self.second = self.fixture.map(self.map_type)
        syscall.update_wide(self.second, SOCKET, self.end.fileno())

    def let_go(self) -> None:
        """Close the redirecting program, then the map."""
        if self.redirector:
            self.redirector.close()
            self.redirector = None
        self.drop_home()

    def await_freed(self) -> None:
        """Wait until the sentinel carries no program, as when its only map is freed; TimeoutError if it does not."""
        if not wait_until(lambda: carries_verdict(self.sentinel) == "ok", PATIENCE, partial(time.sleep, 0.0005)):
            raise TimeoutError("the map is not freed")

    def drop_home(self) -> None:
        """Close the map."""
        self.fixture.drop(self.home)
        self.home = NO_MAP

    def pin(self, folder: str) -> None:
        """Pin the map, close it, and open it again for lookups."""
        maps.pin(self.home, f"{folder}/home")
        self.fixture.drop(self.home)
        self.home = Map(self.fixture.keep(maps.open_pinned(f"{folder}/home")))

    def detach(self) -> None:
        """Detach the programs of the map."""
        for attach_type, program in self.programs:
            syscall.detach(self.home, program.descriptor, attach_type)

    def swap(self) -> None:
        """Replace the map's programs by others."""
        for attach_type, _ in self.programs:
            syscall.attach(self.home, fixture.counting(attach_type, "second").descriptor, attach_type)

    def drop_links(self) -> None:
        """Close the links that hold the programs in the map, and wait until it has none."""
        for link in self.links:
            self.fixture.drop(link)
        numbers = [syscall.ATTACH_TYPES[attach_type] for attach_type, _ in self.programs]
        if not wait_until(lambda: not any(links.query(self.home, n) for n in numbers), PATIENCE, os.sched_yield):
            raise TimeoutError("a closed link still holds its program")

    def drop_namespace(self) -> None:
        """Have the last process leave the network namespace of the socket and its peer."""
        self.fixture.drop(self.namespace)

    def map_like_own(self) -> Map:
        """Create another map with the programs of the case."""
        target = self.fixture.map(self.map_type)
        _attach_all(target, self.programs)
        return target

    def link(self) -> None:
        """Have links hold the programs in the map."""
        for attach_type, program in self.programs:
            number = syscall.ATTACH_TYPES[attach_type]
            links.detach(self.home, program.descriptor, number)
            self.links.append(self.fixture.keep(links.create(self.home, program.descriptor, number)))

    def insert(self) -> str:
        """Insert the socket, and for OUT have near redirect to it."""
        answer = self.home.insert(self.end, SOCKET)
        if answer == "ok" and self.role != "in":
            self.redirector = Redirector(self)
        return answer

    def wait(self, **waiters: Waiter) -> None:
        """Have threads that wait ended before the sockets are closed."""
        for name, waiter in waiters.items():
            self.fixture.callback(waiter.end)
            self.waiters[name] = waiter

    def launch(self, name: str) -> bytes:
        """Return a new payload, to be in flight when the socket leaves."""
        self.in_flight[name] = traffic.payload()
        return self.in_flight[name]

    def runs(self) -> int:
        """Return how often the socket's own verdict has run."""
        return self.programs[-1][1].runs() if self.programs else 0

    def drains(self) -> dict[str, Callable[[], Messages]]:
        """Return, for each open socket, the function that reads its data."""
        pairs = {"socket": (self.end, self.kind), "peer": (self.peer, self.kind)}
        if self.redirector:
            pairs |= {"near": (self.redirector.near, "tcp4"), "far": (self.redirector.far, "tcp4")}
        taken: dict[str, Callable[[], Messages]] = {
            name: waiter.take for name, waiter in self.waiters.items() if isinstance(waiter, Reader)
        }
        return taken | {
            name: partial(traffic.take_all, end, stream=sockets.connects(kind))
            for name, (end, kind) in pairs.items()
            if end.fileno() >= 0
        }

    def settle(self) -> None:
        """Wait until data in flight has arrived; TimeoutError if a queue of the kernel is stuck."""
        if not fences().round(vsock=sockets.is_vsock(self.kind)):
            self.give_up()

    def give_up(self) -> NoReturn:
        """Mark a queue of the kernel as stuck; the next case gets new fences."""
        renew_fences()
        raise TimeoutError("the kernel's queues do not move")

    def found(self, target: Map, key: int) -> str:
        """Look a key up: whose cookie is there, or the errno."""
        found = target.whose(key, self.cookie, self.sentinel)
        return {"cookie 1": "socket", "cookie 2": "sentinel", "another cookie": "another"}.get(found, found)

    def contents(self) -> dict[int, str]:
        """Iterate the map: whose cookie is at which key."""
        found = {key: self.found(self.home, key) for key in self.home}
        return {key: value for key, value in found.items() if value != "ENOENT"}

    def stranger(self) -> socket.socket:
        """Return one more socket that the map takes, closed in the end."""
        # 5459cce6bf49 ("bpf: Disable non stream socket for strparser"), 6.14: a parser is for TCP only.
        parses = self.program == "parser"
        return self.fixture.pair("tcp4")[0] if parses else self.fixture.own(sockets.bound("udp4"))


class Redirector:
    """The socket `near`, whose program redirects what `far` sends to the case's socket."""

    def __init__(self, case: TeardownSetup) -> None:
        self._made = case.fixture.enter_context(Fixture())
        self.near, self.far = self._made.pair("tcp4")
        sources = self._made.map(case.map_type, 1)
        flags = 0 if case.data == "backlog" or sockets.is_vsock(case.kind) else syscall.F_INGRESS
        self._state = State(self._made, key=SOCKET, flags=flags)
        fixture.attach(sources, self._state.load("skb", case.map_type, case.home))
        sources.insert(self.near)

    def dropped(self) -> int:
        """Return how often the redirect helper found no target."""
        return self._state.tallies()[2]

    def redirected(self) -> bool:
        """Whether the program has found a target."""
        return self._state.tallies()[0] > 0

    def close(self) -> None:
        """Close everything that refers to the socket's map."""
        self._made.close()


@cache
def _throw_away() -> Map:
    """Return a map with a verdict, to find out whether a socket carries one already."""
    target = Map(syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 8, 1))
    fixture.attach(target, fixture.counting("sk_skb_verdict", "second").descriptor)
    return target


def carries_verdict(one: socket.socket) -> str:
    """Insert a socket into a map with a verdict, and take it out: `"EBUSY"` if it carries one, `"ok"` if not."""
    answer = _throw_away().insert(one)
    if answer == "ok":
        _throw_away().delete()
    return answer


def _attach_all(target: int, programs: list[tuple[str, Counting]]) -> list[tuple[str, Counting]]:
    """Attach programs, and return them by the names this kernel has."""
    return [(fixture.attach(target, program.descriptor, attach_type), program) for attach_type, program in programs]


def _programs(name: str, data: str) -> list[tuple[str, Counting]]:
    if data in _HELPERS:
        helper, size = _HELPERS[data]
        call = asm.move(asm.R1, asm.R6) + asm.put(asm.R2, size) + asm.call(helper)
        return [("sk_msg_verdict", fixture.counting("sk_msg_verdict", data, before=call))]
    return [(attach_type, fixture.counting(attach_type, "first")) for attach_type in _VERDICTS[name]]
