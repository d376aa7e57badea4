# SPDX-License-Identifier: GPL-2.0-only
"""Prove that a socket is in a map: redirect data through it, and see that its owner can use it as before.

A proof has a map to enrol in and a TCP pair, near and far. The enrolled socket has an owner and a peer. In the role
`target` nothing runs on the enrolled socket, and what far sends to near is redirected to it: the peer gets it. In the
role `source` the map has the program: what the peer sends to the enrolled socket is redirected to near, far gets it.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager

from bpf.guest import syscall
from conformance.guestlib import receive
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.bench import STATE
from conformance.guestlib.bench import TALLIES
from conformance.guestlib.bench import UNLIMITED
from conformance.guestlib.bench import get_program
from conformance.guestlib.owner import Elsewhere
from conformance.guestlib.owner import Owner
from conformance.guestlib.owner import meet
from conformance.guestlib.quiesce import fences
from conformance.guestlib.servant import Messages
from conformance.guestlib.servant import send

_DEADLINE = 4.0
_GRACE = 0.5
"""More than twice TCP's shortest timeout."""
SHORT_GRACE = 0.1
"""Enough where much is lost on some kernels: what is not would only have to pass the fences."""
_WORDS = 96
_SUFFIX = {"sockmap": "map", "sockhash": "hash"}
_COUNTERPART = "tcp4"
"""The one kind that can be IN and OUT on every kernel that has maps of sockets."""

_number = itertools.count(1)


class ImpossibleError(Exception):
    """The kernel lacks what a case is made of; the steps say so already."""


class Proof:
    """A map, the program and the sockets of one case; close it when done."""

    def __init__(self, params: Mapping[str, str]) -> None:
        map_type = params["map"]
        self.role, self._kind = params["role"], params["kind"]
        self._descriptors: list[int] = []
        self._sockets: list[socket.socket] = []
        self._drains: dict[str, Callable[[], Messages]] = {}
        self._waiting = b""
        self._dropped = 0
        self.grace = _GRACE
        """Seconds to look for missing data although the kernel seems quiescent."""
        self.cookie = b""
        """Of the socket that is going to be enrolled."""
        program = get_program(f"sk_skb_redirect_{_SUFFIX[map_type]}")
        near, self._far = self._own(*sockets.pair(_COUNTERPART))
        self.watch("near", near.fileno(), _COUNTERPART)
        self.watch("far", self._far.fileno(), _COUNTERPART)
        self.map = self.new_map(map_type)
        """Where to enrol, at key 0."""
        other = self.new_map(map_type)
        state = self.keep(syscall.create_map(*program.maps["state"]))
        self._state = mmap.mmap(state, mmap.PAGESIZE)
        STATE.pack_into(self._state, 0, 0, 0, UNLIMITED)
        targets, sources = (self.map, other) if self.role == "target" else (other, self.map)
        self.program = self.keep(program.load({"state": state, "targets": targets}))
        attach_verdict(sources, self.program)
        syscall.update_wide(other, 0, near.fileno())

    def meet(self, owner: Elsewhere, steps: dict[str, str]) -> None:
        """Have another process own the socket that is going to be enrolled; ImpossibleError if there is none."""
        with possible(steps):
            self.introduce(owner, meet(owner, self._kind))

    def introduce(self, owner: Owner, peer: socket.socket) -> None:
        """Say whose socket is going to be enrolled; closes the peer in the end."""
        self.cookie = owner.cookie
        self.face(owner, peer)

    def face(self, owner: Owner | None, peer: socket.socket) -> None:
        """Say who talks to whom; nobody owns a socket that is not accepted yet."""
        self.peer = peer
        self._own(peer)
        self.watch("peer", peer.fileno())
        if owner is not None:
            self.accept(owner)

    def accept(self, owner: Owner) -> None:
        """Say who owns the socket that talks to the peer."""
        self._owner = owner
        self._drains["owner"] = owner.receive

    def watch(self, name: str, descriptor: int, kind: str = "") -> None:
        """Look for data on one more socket, of the enrolled one's kind unless another is given."""
        stream = sockets.has_end(kind or self._kind)
        self._drains[name] = lambda: receive.drain(descriptor, stream=stream)

    def unwatch(self, name: str) -> None:
        """Do not look there any more, if we did."""
        self._drains.pop(name, None)

    def enrol(self, descriptor: int) -> str:
        """Insert by system call; `"ok"` or errno."""
        return attempt(syscall.update_wide, self.map, 0, descriptor)

    def looked_up(self, key: int = 0, descriptor: int | None = None) -> str:
        """Look into the map, or another one: `"cookie"` if the owner's socket is there, else what is."""
        found = self.found(key, descriptor)
        return found if isinstance(found, str) else "cookie" if found == self.cookie else "another cookie"

    def found(self, key: int = 0, descriptor: int | None = None) -> bytes | str:
        """Return the cookie of the socket in the map, or errno."""
        try:
            return syscall.lookup(self.map if descriptor is None else descriptor, key, 8)
        except OSError as error:
            return error_name(error.errno or 0)

    def redirected(self, meanwhile: Callable[[], None] | None = None) -> str:
        """Redirect data through the enrolled socket, twice if something is to be done `meanwhile`; `"data: WHERE"`."""
        through = self._far if self.role == "target" else self.peer
        return self._deliver(lambda data: send(through, data), meanwhile)

    def sent(self) -> str:
        """Have the owner send, which no program sees; `"data: WHERE"`."""
        return self._deliver(self._owner.send)

    def received(self) -> str:
        """Have the peer send to the owner; `"data: WHERE"`."""
        return self.delivered(self.peer)

    def delivered(self, source: socket.socket) -> str:
        """Send on a socket; `"data: WHERE"`."""
        return self._deliver(lambda data: send(source, data))

    def let_wait(self, sending: Callable[[bytes], object] | None = None) -> None:
        """Have the peer send to the owner, and leave the data in the queue; the next look finds it first."""
        self._waiting = _payload()
        if sending is None:
            send(self.peer, self._waiting)
        else:
            sending(self._waiting)
        self.settle()

    def prove(self, steps: dict[str, str], suffix: str = "") -> None:
        """Redirect data, and have the owner use the socket wherever the program does not interfere."""
        steps[f"redirect{suffix}"] = self.redirected()
        steps[f"send{suffix}"] = self.sent()
        if self.role == "target":
            steps[f"receive{suffix}"] = self.received()

    def new_map(self, map_type: str, entries: int = 4) -> int:
        """Create one more map, with room for cookies."""
        return self.keep(syscall.create_map(syscall.MAP_TYPES[map_type], 4, 8, entries))

    def keep(self, descriptor: int) -> int:
        """Have a descriptor closed in the end."""
        self._descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Close everything but the owner's; sockets first, so that freeing the maps finds them empty."""
        for each in self._sockets:
            each.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._state.close()

    def _own(self, *opened: socket.socket) -> tuple[socket.socket, ...]:
        self._sockets += opened
        return opened

    def landed(self) -> str:
        """Say where what waited came out."""
        return self._landed({})

    def settle(self) -> bool:
        """Let what is in flight arrive; False if it does not."""
        return fences().round(vsock=sockets.is_vsock(self._kind))

    def drain(self, name: str) -> Messages:
        """Return what waits on one of the sockets."""
        return self._drains[name]()

    def _deliver(self, sending: Callable[[bytes], str], meanwhile: Callable[[], None] | None = None) -> str:
        first, second = _payload(), _payload()
        answer = sending(first)
        if meanwhile is None or answer != "ok":
            return self._landed({"sent": first}) if answer == "ok" else answer
        meanwhile()
        answer = sending(second)
        return self._landed({"sent before": first, "sent after": second}) if answer == "ok" else answer

    def _landed(self, parts: dict[str, bytes]) -> str:
        """Wait until the kernel is at rest, and say where the parts of what was sent came out."""
        if self._waiting:
            parts, self._waiting = {"queued": self._waiting, **parts}, b""
        due = sum(map(len, parts.values()))
        found: dict[str, Messages] = {name: [] for name in self._drains}
        begin = time.monotonic()
        while True:
            runs = self._runs()
            arrived = self.settle()
            for name, drain in self._drains.items():
                found[name] += drain()
            size = sum(len(each) for messages in found.values() for each in messages if isinstance(each, bytes))
            missing = due - size - (runs[3] - self._dropped)
            elapsed = time.monotonic() - begin
            if arrived and runs == self._runs() and (missing <= 0 or elapsed > self.grace):
                break
            if elapsed > _DEADLINE:
                return f"never at rest, {_describe(found, parts)}"
        self._dropped = runs[3]
        return _describe(found, parts)

    def _runs(self) -> tuple[int, ...]:
        return TALLIES.unpack_from(self._state, STATE.size)


@contextmanager
def possible(steps: dict[str, str]) -> Iterator[None]:
    """Make sockets; ImpossibleError, and nothing but the step `available`, where they cannot be made."""
    try:
        yield
    except OSError as error:
        steps.clear()
        steps["available"] = error_name(error.errno or errno.ETIMEDOUT)
        raise ImpossibleError from error


def attach_verdict(map_fd: int, program: int) -> str:
    """Attach an sk_skb verdict by the name this kernel has for it, and return that."""
    name = "sk_skb_verdict"
    try:
        syscall.attach(map_fd, program, name)
    except OSError:
        # a7ba4558e69a ("sock_map: Introduce BPF_SK_SKB_VERDICT"), 5.13: before, it goes by the other name.
        name = "sk_skb_stream_verdict"
        syscall.attach(map_fd, program, name)
    return name


def _payload() -> bytes:
    return struct.pack("=Q", next(_number)) * _WORDS


def _describe(found: dict[str, Messages], parts: dict[str, bytes]) -> str:
    """Name the sockets data came out of; where it was not all of it and in order, what it was."""
    places = []
    for name, messages in found.items():
        data = b"".join(each for each in messages if isinstance(each, bytes))
        if data:
            known = _recognize(data, parts)
            places.append(name if known == list(parts) else f"{name} ({' + '.join(known)})")
        places += [f"{name} {each}" for each in messages if isinstance(each, str)]
    return f"data: {', '.join(places) or 'nowhere'}"


def _recognize(data: bytes, parts: dict[str, bytes]) -> list[str]:
    known: list[str] = []
    while data:
        name = next((name for name, part in parts.items() if data.startswith(part)), "")
        if not name:
            return [*known, f"{len(data)} bytes not sent so"]
        known.append(name)
        data = data[len(parts[name]) :]
    return known
