# SPDX-License-Identifier: GPL-2.0-only
"""What one case of leaving a map is made of: the socket, its peer, the map it is in, and whoever redirects to it.

The socket is IN (its own program runs), OUT (near's program redirects to it what far sends), or both. Every program of
the socket lets everything pass and counts. The map has a witness, too, which is to stay where it is when the
socket leaves: another socket that carries a verdict of this map and nothing else, so that it is seen when the map is
freed, which happens some time after nobody holds it any more.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from functools import partial

from bpf.guest import assemble as asm
from bpf.guest import links
from bpf.guest import maps
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS
from conformance.groups.teardown.guest.namespace import Namespace
from conformance.groups.teardown.guest.waiters import Reader
from conformance.groups.teardown.guest.waiters import Waiter
from conformance.guestlib import kit
from conformance.guestlib import pidfd
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.bench import STATE
from conformance.guestlib.bench import TALLIES
from conformance.guestlib.bench import UNLIMITED
from conformance.guestlib.bench import get_program
from conformance.guestlib.kit import Counting
from conformance.guestlib.kit import Steps
from conformance.guestlib.owner import Elsewhere
from conformance.guestlib.owner import another
from conformance.guestlib.owner import meet
from conformance.guestlib.patience import comes_true
from conformance.guestlib.proof import possible
from conformance.guestlib.quiesce import fences
from conformance.guestlib.quiesce import renew_fences
from conformance.guestlib.servant import ROOM
from conformance.guestlib.servant import Messages
from conformance.guestlib.servant import cookie_of

SOCKET, SPARE, WITNESS = 0, 1, 3
"""Keys in the map; the witness comes after the socket in the order in which either type of map is freed."""
ENTRIES = 4
FREEING = ("destroy", "destroy_one", "unpin")
"""The ways out that free the map, which the witness must tell the end of."""
CORK = 1 << 12
"""Bytes that a corking program waits for."""
APPLY = 1 << 20
"""Bytes that the answer of an applying program holds for."""
PATIENCE = 2.0

_VERDICTS = {
    "none": (),
    "msg": ("sk_msg_verdict",),
    "verdict": ("sk_skb_verdict",),
    "parser": ("sk_skb_stream_parser", "sk_skb_stream_verdict"),
}
_SUFFIX = {"sockmap": "map", "sockhash": "hash"}
_HELPERS = {"corked": (62, CORK), "applied": (61, APPLY)}
"""bpf_msg_cork_bytes, bpf_msg_apply_bytes, and for how many bytes."""
_WORDS = 96
_WITNESS = "tcp4"
"""The kind that carries programs on every kernel."""


class Scene:
    """The sockets, maps and programs of one case; close it when done."""

    def __init__(self, params: Mapping[str, str], steps: Steps, *, mapped: bool = True) -> None:
        """Make the sockets, and the map they are to be in unless the scene is that of a control."""
        self.kind, self.map_type = params["kind"], params["map"]
        self.role, self.program, self.data = params["role"], params["program"], params["data"]
        self._descriptors: list[int] = []
        self._sockets: list[socket.socket] = []
        self._number = 0
        self.redirector: Redirector | None = None
        self.in_flight: dict[str, bytes] = {}
        """The data that is in flight when the socket leaves, by what it is."""
        self.waiters: dict[str, Waiter] = {}
        """Threads that wait meanwhile."""
        self.steps = steps
        self.owner: Elsewhere | None = None
        """Another process that has the socket, too."""
        self.namespace: Namespace | None = None
        """The network namespace of the socket and its peer, if it is none that stays."""
        self.second = -1
        """Another map that the socket is in."""
        with possible(steps):
            self.end, self.peer = self.own(*self._connected(params["exit"]))
        self.mapped = mapped
        """Whether the socket is to be in a map at all."""
        self.home = -1
        """The map that the socket leaves."""
        self.programs: list[tuple[str, Counting]] = []
        """What the map holds: attach types and programs."""
        self.links: list[int] = []
        """By which it holds them, if it does."""
        if mapped:
            self._make_map(params["exit"])

    def _make_map(self, way_out: str) -> None:
        self.cookie = cookie_of(self.end)
        self.home = self.new_map()
        # Where it tells nothing, it may be a cheaper one.
        self.witness = self.own(*sockets.pair(_WITNESS) if way_out in FREEING else [sockets.bound("udp4")])[0]
        self._plant_witness()
        if self.role != "out":
            self.programs = attach_all(self.home, _programs(self.program, self.data))

    def _connected(self, way_out: str) -> tuple[socket.socket, socket.socket]:
        if way_out == "namespace":
            self.namespace = Namespace()
            return self.namespace.pair(self.kind)
        if way_out not in ("stolen", "killed"):
            return sockets.pair(self.kind)
        self.owner = another() if way_out == "stolen" else Elsewhere()
        peer = meet(self.owner, self.kind)
        handle = pidfd.open_pidfd(self.owner.pid)
        try:
            return socket.socket(fileno=pidfd.steal(handle, self.owner.number)), peer
        finally:
            os.close(handle)

    def note_kept(self) -> None:
        """Note who is in the map while something still keeps the socket."""
        if self.mapped:
            self.steps["kept"] = self.found(self.home, SOCKET)

    def own(self, *opened: socket.socket) -> tuple[socket.socket, ...]:
        """Have sockets closed in the end."""
        self._sockets += opened
        return opened

    def keep(self, descriptor: int) -> int:
        """Have a descriptor closed in the end."""
        self._descriptors.append(descriptor)
        return descriptor

    def drop(self, descriptor: int) -> None:
        """Close a descriptor now."""
        self._descriptors.remove(descriptor)
        os.close(descriptor)

    def new_map(self) -> int:
        """Create one more map of the case's type, with room for cookies."""
        return self.keep(syscall.create_map(syscall.MAP_TYPES[self.map_type], 4, 8, ENTRIES))

    def link(self) -> None:
        """Have links hold the programs in the map."""
        for attach_type, program in self.programs:
            number = syscall.ATTACH_TYPES[attach_type]
            links.detach(self.home, program.descriptor, number)
            self.links.append(self.keep(links.create(self.home, program.descriptor, number)))

    def insert(self) -> str:
        """Insert the socket, and for OUT have near redirect to it."""
        answer = attempt(syscall.update_wide, self.home, SOCKET, self.end.fileno())
        if answer == "ok" and self.role != "in":
            self.redirector = Redirector(self)
        return answer

    def payload(self) -> bytes:
        """Return bytes never sent before."""
        self._number += 1
        return struct.pack("=II", os.getpid(), self._number) * _WORDS

    def launch(self, name: str) -> bytes:
        """Return a payload that is going to be in flight when the socket leaves."""
        self.in_flight[name] = self.payload()
        return self.in_flight[name]

    def runs(self) -> int:
        """Return how often the socket's own verdict has run."""
        return self.programs[-1][1].runs() if self.programs else 0

    def drains(self) -> dict[str, Callable[[], Messages]]:
        """Return for each socket still open how to take what waits on it."""
        pairs = {"socket": (self.end, self.kind), "peer": (self.peer, self.kind)}
        if self.redirector and self.redirector.redirects():
            pairs |= {"near": (self.redirector.near, "tcp4"), "far": (self.redirector.far, "tcp4")}
        taken: dict[str, Callable[[], Messages]] = {
            name: waiter.take for name, waiter in self.waiters.items() if isinstance(waiter, Reader)
        }
        return taken | {
            name: partial(take_all, end, stream=sockets.has_end(kind))
            for name, (end, kind) in pairs.items()
            if end.fileno() >= 0
        }

    def settle(self) -> None:
        """Let what is in flight arrive; TimeoutError if a queue of the kernel is stuck."""
        if not fences().round(vsock=sockets.is_vsock(self.kind)):
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")

    def found(self, descriptor: int, key: int) -> str:
        """Look into a map: whose cookie is there, or the errno."""
        try:
            cookie = syscall.lookup(descriptor, key, 8)
        except OSError as error:
            return error_name(error.errno or 0)
        return {self.cookie: "socket", cookie_of(self.witness): "witness"}.get(cookie, "another")

    def contents(self, descriptor: int) -> dict[int, str]:
        """Iterate a map: whose cookie is at which key."""
        found: dict[int, str] = {}
        key = None
        with suppress(OSError):
            while True:
                key = maps.next_key(descriptor, key, 4)
                number = struct.unpack("=I", key)[0]
                found[number] = self.found(descriptor, number)
        return {key: value for key, value in found.items() if value != "ENOENT"}

    def close(self) -> None:
        """Close everything; sockets first, so that freeing the maps finds them empty."""
        for waiter in self.waiters.values():
            waiter.end()
        if self.redirector:
            self.redirector.close()
        for each in self._sockets:
            each.close()
        if self.namespace:
            self.namespace.leave()
        if self.owner:
            self.owner.close() if self.owner is another() else self.owner.end()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _plant_witness(self) -> None:
        held = attach_all(self.home, [("sk_skb_verdict", kit.program("sk_skb_verdict", "second"))])
        syscall.update_wide(self.home, WITNESS, self.witness.fileno())
        for attach_type, program in held:
            syscall.detach(self.home, program.descriptor, attach_type)

    def stranger(self) -> socket.socket:
        """Return one more socket that the map takes, closed in the end."""
        # 5459cce6bf49 ("bpf: Disable non stream socket for strparser"), 6.14: a parser is for TCP only.
        return self.own(*sockets.pair("tcp4"))[0] if self.program == "parser" else self.own(sockets.bound("udp4"))[0]


class Redirector:
    """Near, whose program redirects to the socket what far sends: to its reader, or out of it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.near, self.far = sockets.pair("tcp4")
        self._sources = syscall.create_map(syscall.MAP_TYPES[scene.map_type], 4, 8, 1)
        program = get_program(f"sk_skb_redirect_{_SUFFIX[scene.map_type]}")
        state = syscall.create_map(*program.maps["state"])
        self._state = mmap.mmap(state, mmap.PAGESIZE)
        flags = 0 if scene.data == "backlog" or sockets.is_vsock(scene.kind) else syscall.F_INGRESS
        STATE.pack_into(self._state, 0, SOCKET, flags, UNLIMITED)
        self._program = program.load({"state": state, "targets": scene.home})
        os.close(state)
        attach(self._sources, "sk_skb_verdict", self._program)
        syscall.update_wide(self._sources, 0, self.near.fileno())

    def dropped(self) -> int:
        """Return how often the program found nobody to redirect to."""
        return int(TALLIES.unpack_from(self._state, STATE.size)[2])

    def runs(self) -> int:
        """Return how often the program has run."""
        tallies = TALLIES.unpack_from(self._state, STATE.size)
        return int(tallies[0] + tallies[2])

    def redirects(self) -> bool:
        """Whether it still does."""
        return self._program >= 0

    def close(self) -> None:
        """Let go of all that refers to the socket's map."""
        if self.redirects():
            self.near.close()
            self.far.close()
            os.close(self._sources)
            os.close(self._program)
            self._state.close()
            self._program = -1


def take_all(end: socket.socket, *, stream: bool) -> Messages:
    """Return the messages that wait, in order, an end and errors included.

    Not by recvmmsg(2): that puts an error it meets after data back, for whatever is done next to the socket.
    """
    found: Messages = []
    while True:
        try:
            data = end.recv(ROOM, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        except OSError as error:
            found.append(f"!{error_name(error.errno or 0)}")
            # One that stays would keep us here for ever.
            if found[-2:-1] == found[-1:]:
                return found
        else:
            found.append("eof" if stream and not data else data)
            if found[-1] == "eof":
                return found


def await_freed(witness: socket.socket) -> None:
    """Wait until a socket carries no program, as when its only map is freed; TimeoutError if that does not come."""
    if not comes_true(lambda: carries_verdict(witness) == "ok", PATIENCE, partial(time.sleep, 0.0005)):
        raise TimeoutError("the map is not freed")


@cache
def _throw_away() -> int:
    """Return a map with a verdict, to find out who carries one already."""
    descriptor = syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 1)
    attach_all(descriptor, [("sk_skb_verdict", kit.program("sk_skb_verdict", "second"))])
    return descriptor


def carries_verdict(one: socket.socket) -> str:
    """Insert a socket into a map with a verdict, and take it out: `"EBUSY"` if it carries one, `"ok"` if not."""
    answer = attempt(syscall.update, _throw_away(), 0, one.fileno())
    if answer == "ok":
        syscall.delete(_throw_away(), 0)
    return answer


def attach(target: int, attach_type: str, program: int) -> str:
    """Attach a program by the name this kernel has for it, and return that name."""
    try:
        syscall.attach(target, program, attach_type)
    except OSError:
        if attach_type != "sk_skb_verdict":
            raise
        # a7ba4558e69a ("sock_map: Introduce BPF_SK_SKB_VERDICT"), 5.13: before, it goes by the other name.
        attach_type = "sk_skb_stream_verdict"
        syscall.attach(target, program, attach_type)
    return attach_type


def attach_all(target: int, programs: list[tuple[str, Counting]]) -> list[tuple[str, Counting]]:
    """Attach programs, and return them by the names this kernel has."""
    return [(attach(target, attach_type, program.descriptor), program) for attach_type, program in programs]


def _programs(name: str, data: str) -> list[tuple[str, Counting]]:
    if data in _HELPERS:
        return [("sk_msg_verdict", _holding_back(data))]
    return [(attach_type, kit.program(attach_type, "first")) for attach_type in _VERDICTS[name]]


@cache
def _holding_back(data: str) -> Counting:
    """Return an SK_MSG program that corks, or has its answer hold for long."""
    helper, size = _HELPERS[data]
    counter = syscall.create_map(syscall.MAP_TYPES["array"], 4, 8, 1)
    count = asm.put_map_value(asm.R2, counter) + asm.put(asm.R1, 1) + asm.count(asm.R2, 0)
    call = asm.move(asm.R1, asm.R6) + asm.put(asm.R2, size) + asm.call(helper)
    code = asm.move(asm.R6, asm.R1) + count + call + asm.put(asm.R0, 1) + asm.EXIT
    return Counting(asm.load_program(CONTEXTS["sk_msg"], code), 0, counter)
