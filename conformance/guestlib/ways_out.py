# SPDX-License-Identifier: GPL-2.0-only
"""Every way out of a map, once for a fresh socket on which data waits that programs passed and redirected to it."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import signal
import socket
import stat
import struct
import threading
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from bpf.guest import links
from bpf.guest import maps
from bpf.guest import syscall
from conformance.guestlib import fixture
from conformance.guestlib import procfs
from conformance.guestlib import sockets
from conformance.guestlib.fixture import Fixture
from conformance.guestlib.fixture import State
from conformance.guestlib.quiesce import fences

BATCH: Final = 8
"""Sockets that lose their owner at once."""
_MESSAGE = b"x" * 700
_NOTHING = 1 << 30
_REDIRECTED = 2
"""Messages to redirect before the others are passed."""
_WITHOUT_WAITING = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_FENCES = threading.Lock()
"""Of two threads at a fence one would take what the other waits for."""
_AT_ONCE = struct.pack("=ii", 1, 0)
"""struct linger: a close that resets."""

_LIBC = ctypes.CDLL(None, use_errno=True)
"""For what Python asks the kernel without letting other threads run: they may hold the socket that it waits for."""

Owned = socket.socket | io.FileIO


class Stage:
    """Two maps and their programs; a socket that is in both receives what is redirected as well as what is passed.

    Only making one is not for several threads at once.
    """

    def __init__(self, kind: str, map_type: str, *, parser: bool = False) -> None:
        self.kind, self._map_type = kind, map_type
        self._fixture = Fixture()
        self._maps: dict[str, int] = {}
        self._spare = -1
        self.wards: list[tuple[Owned, Owned]] = []
        """Sockets whose owner is going to be killed."""
        try:
            self._set_up(parser=parser)
        except BaseException:
            self.close()
            raise

    def _set_up(self, *, parser: bool) -> None:
        self._state = State(self._fixture)
        for each in ("source", "targets"):
            self._maps[each] = syscall.create_map(syscall.MAP_TYPES[self._map_type], 4, 4, BATCH)
        self.verdict = self._state.load("skb", self._map_type, self.targets)
        if parser:
            syscall.attach(self.source, self._fixture.load("sk_skb_parser", {}), "sk_skb_stream_parser")
        name = fixture.attach(self.source, self.verdict, "sk_skb_stream_verdict" if parser else "sk_skb_verdict")
        self.attach_type = syscall.ATTACH_TYPES[name]
        if sockets.is_tcp(self.kind):
            syscall.attach(self.source, self._state.load("msg", self._map_type, self.targets), "sk_msg_verdict")

    @property
    def spare(self) -> int:
        """A program that does what the attached verdict does; loaded when first asked for, which few ways do."""
        self.load_spare()
        return self._spare

    def load_spare(self) -> None:
        """Load the second program now: several threads that asked for it at once would load it more than once."""
        if self._spare < 0:
            self._spare = self._state.load("skb", self._map_type, self.targets)

    @property
    def source(self) -> int:
        """The map that has the programs; once it is closed, a descriptor that nothing has."""
        return self._maps.get("source", _NOTHING)

    @property
    def targets(self) -> int:
        """The map that is redirected to; once it is closed, a descriptor that nothing has."""
        return self._maps.get("targets", _NOTHING)

    def enter(self, ours: socket.socket, key: int = 0, target: socket.socket | None = None) -> None:
        """Insert a socket, and a target in its place unless it is that, too.

        Of what it gets then, some is redirected to the target's local end and the rest passed.
        """
        _insert(self.source, key, ours)
        _insert(self.targets, key, target or ours)
        self.order(syscall.F_INGRESS, _REDIRECTED * len(_MESSAGE), key)

    def order(self, flags: int, budget: int, key: int = 0) -> None:
        """Have so many bytes redirected, and the others passed."""
        with suppress(TypeError, ValueError):
            # Closed by another thread.
            self._state.order(key, flags, budget)

    def leave(self) -> None:
        """Delete what is in the maps."""
        for each in (self.source, self.targets):
            maps.delete(each, bytes(4))

    def attach(self, program: int) -> None:
        """Put a verdict in the place of the attached one."""
        links.attach(self.source, program, self.attach_type)

    def detach(self) -> None:
        """Take the first verdict away."""
        links.detach(self.source, self.verdict, self.attach_type)

    def drop(self, name: str) -> None:
        """Close the descriptor of one of the maps."""
        # One step, so that of several threads only one closes it.
        descriptor = self._maps.pop(name, -1)
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Close maps, then programs, whatever is in them."""
        self.drop("source")
        self.drop("targets")
        self._fixture.close()
        for each in self.wards:
            end(self.kind, *each)


def _insert(target: int, key: int, what: socket.socket) -> None:
    # By `maps`, which several threads may use at once.
    maps.update(target, struct.pack("=I", key), struct.pack("=i", what.fileno()))


def talk(ours: socket.socket, peer: socket.socket) -> None:
    """Send both ways, so that data is under way and waits."""
    for each in (peer, ours, peer, ours, peer):
        with suppress(OSError):
            each.send(_MESSAGE, _WITHOUT_WAITING)


def end(kind: str, ours: Owned, peer: Owned) -> None:
    """Close what is still open of a pair, the second when it has heard of the first.

    Two vsock sockets that are closed at once, with data unread, wait 8 s for each other.
    """
    for each in (ours, peer):
        if sockets.is_vsock(kind):
            with _FENCES:
                fences().vsock()
        each.close()


def _duplicate(one: socket.socket) -> io.FileIO:
    """Do what dup() does, but keep nothing if another thread has just had a map opened under the socket's number.

    No socket of Python's, which would ask it for its name: see `_LIBC`.
    """
    descriptor = os.dup(one.fileno())
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENOTSOCK, "that number is no socket any more")
    return io.FileIO(descriptor)


def _replace(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    another = sockets.pair(stage.kind)
    try:
        stage.enter(another[0])
        talk(*another)
        talk(ours, peer)
    finally:
        end(stage.kind, *another)


def _replace_by_itself(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    # EBUSY: it has the program already.
    with suppress(OSError):
        stage.enter(ours)
    _insert(stage.targets, 0, ours)
    talk(ours, peer)


def _shutdown(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    for each, how in ((ours, socket.SHUT_RD), (peer, socket.SHUT_WR), (ours, socket.SHUT_WR), (peer, socket.SHUT_RDWR)):
        # Where the other side was quicker there is no connection any more.
        with suppress(OSError):
            each.shutdown(how)
        talk(ours, peer)


def _peer_closes(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_WR)
    peer.close()


def _peer_resets(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    # On others what was not read resets. A stage can have sockets of two kinds.
    wanted = peer.fileno(), socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE, len(_AT_ONCE)
    if peer.family in (socket.AF_INET, socket.AF_INET6):
        procfs.check(_LIBC.setsockopt(*wanted))
    peer.close()


def _owner_killed(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    """Kill one owner for many: it is a fork."""
    stage.wards.append((_duplicate(ours), _duplicate(peer)))
    if len(stage.wards) < BATCH:
        return
    pid = os.fork()
    if not pid:
        try:
            signal.pause()
        finally:
            os._exit(1)
    for owned, _ in stage.wards:
        owned.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for each in stage.wards:
        end(stage.kind, *each)
    stage.wards.clear()


def _last_duplicate(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    with _duplicate(ours):
        ours.close()
        peer.send(_MESSAGE, _WITHOUT_WAITING)


def _in_flight(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    """Close the last descriptor while the socket is in a message that nobody receives."""
    outgoing, incoming = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with outgoing, incoming:
        _hand_over(outgoing, ours)
        ours.close()
        with suppress(OSError):
            peer.send(_MESSAGE, _WITHOUT_WAITING)


def _in_flight_to_itself(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    """Leave both ends in messages to each other, for the collector of garbage to find."""
    _hand_over(ours, peer)
    _hand_over(peer, ours)


def _hand_over(through: socket.socket, what: socket.socket) -> None:
    socket.send_fds(through, [b"!"], [what.fileno()], _WITHOUT_WAITING)


def _detach(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    stage.detach()
    try:
        talk(ours, peer)
    finally:
        stage.attach(stage.verdict)


def _replace_program(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    stage.attach(stage.spare)
    talk(ours, peer)
    stage.attach(stage.verdict)


def _destroy_link(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    stage.leave()
    stage.detach()
    try:
        link = links.create(stage.source, stage.verdict, stage.attach_type)
        try:
            stage.enter(ours)
            talk(ours, peer)
        finally:
            os.close(link)
        talk(ours, peer)
    finally:
        stage.attach(stage.verdict)


def _unpin(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    """Leave nothing of the maps but names, and remove these."""
    with procfs.file_system("bpf") as path:
        names = {name: f"{path}/{name}" for name in ("source", "targets")}
        for name, pinned in names.items():
            maps.pin(getattr(stage, name), pinned)
        stage.close()
        talk(ours, peer)
        for pinned in names.values():
            os.unlink(pinned)


def _destroy_referenced(stage: Stage, ours: socket.socket, peer: socket.socket) -> None:
    """Leave the map to the program that redirects to it, then end that."""
    stage.drop("targets")
    talk(ours, peer)
    stage.detach()
    stage.close()


WAYS: Final[Mapping[str, Callable[[Stage, socket.socket, socket.socket], object]]] = {
    "close": lambda stage, ours, peer: ours.close(),
    "delete": lambda stage, ours, peer: stage.leave(),
    "destroy": lambda stage, ours, peer: stage.close(),
    "disconnect": lambda stage, ours, peer: sockets.disconnect(ours),
    "replace": _replace,
    "replace-by-itself": _replace_by_itself,
    "shutdown": _shutdown,
    "peer-closes": _peer_closes,
    "peer-resets": _peer_resets,
    "owner-killed": _owner_killed,
    "last-duplicate": _last_duplicate,
    "in-flight": _in_flight,
    "in-flight-to-itself": _in_flight_to_itself,
    "namespace-destroyed": lambda stage, ours, peer: ours.close(),
    "program-detached": _detach,
    "program-replaced": _replace_program,
    "link-destroyed": _destroy_link,
    "unpinned": _unpin,
    "destroyed-referenced": _destroy_referenced,
}
ENDS_STAGE: Final = frozenset({"destroy", "unpinned", "destroyed-referenced"})
"""The ways that leave no stage for another round."""
