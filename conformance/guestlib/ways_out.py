# SPDX-License-Identifier: GPL-2.0-only
"""The ways out of a map, and what else may happen to a socket that is in one."""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from conformance.guestlib import procfs, sockets, traffic
from conformance.guestlib.child import Child
from conformance.guestlib.quiesce import fences

_PATIENCE: Final = 2.0
WITHOUT_WAITING: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Member:
    """A socket that is in a map, and its peer; a group says how it keeps the map, and what belongs to that."""

    kind: str
    end: socket.socket
    peer: socket.socket
    owner: Child | None = None
    """Another process that has the socket, too."""

    meanwhile: Callable[[], object]
    """Do what is due while something still keeps the socket: a duplicate, an owner, a name of the map."""
    delete: Callable[[], object]
    """Delete the entry."""
    put: Callable[[socket.socket], object]
    """Insert a socket in the place of this one."""
    stranger: Callable[[], socket.socket]
    """Return one more socket that the map takes, closed in the end."""
    let_go: Callable[[], object]
    """Close all that refers to the map."""
    drop_home: Callable[[], object]
    """Close the map; a program may still refer to it."""
    pin: Callable[[str], object]
    """Give the map a name in a folder, and close it except for what `meanwhile` needs."""
    detach: Callable[[], object]
    """Detach the programs of the map."""
    swap: Callable[[], object]
    """Attach other programs in the place of those the socket runs."""
    drop_links: Callable[[], object]
    """Close the links that hold the programs in the map."""

    def enter_second(self) -> None:
        """Insert the socket into another map, too, which has no programs."""

    def await_freed(self) -> None:
        """Wait until the map is freed, if anything tells."""

    def kill_owner(self) -> None:
        """Leave the socket to its owner, and kill that."""
        assert self.owner
        self.end.close()
        self.meanwhile()
        self.owner.kill()
        self.owner.reap()

    def drop_namespace(self) -> None:
        """Have the last process leave the network namespace of the socket and its peer."""


def duplicate(one: socket.socket) -> io.FileIO:
    """Do what dup() does, but keep nothing if another thread has just had a map opened under the socket's number.

    No socket of Python's, which would ask it for its name while no other thread runs: one of them may hold the socket.
    """
    descriptor = os.dup(one.fileno())
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENOTSOCK, "that number is not a socket any more")
    return io.FileIO(descriptor)


def _destroy(case: Member) -> None:
    case.let_go()
    case.await_freed()


def _shutdown(case: Member) -> None:
    """Shut down step by step, with data under way."""
    for way in ("shut_rd", "peer_shut_wr", "shut_wr", "peer_shut_both"):
        # Where the other side was quicker there is no connection any more.
        with suppress(OSError):
            WAYS[way](case)
        case.meanwhile()


def _peer_reset(case: Member) -> None:
    """Close the peer so that the socket gets a reset; except on TCP, that needs data that the peer has not read."""
    if case.peer.family not in (socket.AF_INET, socket.AF_INET6):
        traffic.send(case.end, traffic.payload())
    sockets.abort(case.peer)


def _last_duplicate(case: Member) -> None:
    """Close the socket, then its last duplicate."""
    with duplicate(case.end):
        case.end.close()
        case.meanwhile()


def _dup2(case: Member) -> None:
    """Have dup2(2) close the descriptor of the socket and give its number to another file."""
    number = case.end.detach()
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), number)
    os.close(number)


def _in_flight(case: Member) -> None:
    """Close the socket while a duplicate is in flight, then the sockets that carry it."""
    outgoing, incoming = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with outgoing, incoming:
        _hand_over(outgoing, case.end)
        case.end.close()
        case.meanwhile()


def _collected(case: Member) -> None:
    """Close the socket while a message holds it that only its receiver has, which is in the message, too.

    unix_gc() finds that when another UNIX socket closes, and closes all that the message holds, in whatever order: the
    socket is closed when both pipes are.
    """
    outgoing, incoming = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    first, last = os.pipe(), os.pipe()
    held = [first[1], case.end.fileno(), incoming.fileno(), last[1]]
    with outgoing, incoming:
        socket.send_fds(outgoing, [b"!"], held, WITHOUT_WAITING)
        for _, writer in (first, last):
            os.close(writer)
        case.end.close()
        case.meanwhile()
    with open(first[0], "rb") as one, open(last[0], "rb") as other:
        if not all(select.select([reader], [], [], _PATIENCE)[0] for reader in (one, other)):
            raise TimeoutError("unix_gc() does not close what a message holds")


def _in_flight_to_itself(case: Member) -> None:
    """Leave both ends in messages to each other, for the collector of garbage to find."""
    _hand_over(case.end, case.peer)
    _hand_over(case.peer, case.end)


def _hand_over(through: socket.socket, what: socket.socket) -> None:
    socket.send_fds(through, [b"!"], [what.fileno()], WITHOUT_WAITING)


def _stolen(case: Member) -> None:
    """Close the owner's descriptor, then the duplicate."""
    assert case.owner
    case.owner.close()
    case.meanwhile()
    case.end.close()


def _namespace(case: Member) -> None:
    """Have the last process leave the network namespace of the socket and its peer, then close both."""
    case.drop_namespace()
    case.meanwhile()
    case.end.close()
    if sockets.is_vsock(case.kind):
        fences().vsock()
    case.peer.close()


def _unpin(case: Member) -> None:
    """Have names be the last that keep the maps, and remove these."""
    with procfs.file_system("bpf") as folder:
        case.pin(folder)
        case.meanwhile()
        case.let_go()
    case.await_freed()


def _second(way: str) -> Callable[[Member], object]:
    """Leave the map, but not another map without programs."""

    def leave_one(case: Member) -> None:
        case.enter_second()
        WAYS[way](case)

    return leave_one


WAYS: Final[dict[str, Callable[[Member], object]]] = {
    "close": lambda case: case.end.close(),
    "delete": lambda case: case.delete(),
    "destroy": _destroy,
    "disconnect": lambda case: sockets.disconnect(case.end),
    "replace": lambda case: case.put(case.stranger()),
    "itself": lambda case: case.put(case.end),
    "shutdown": _shutdown,
    "shut_rd": lambda case: case.end.shutdown(socket.SHUT_RD),
    "shut_wr": lambda case: case.end.shutdown(socket.SHUT_WR),
    "shut_both": lambda case: case.end.shutdown(socket.SHUT_RDWR),
    "peer_shut_rd": lambda case: case.peer.shutdown(socket.SHUT_RD),
    "peer_shut_wr": lambda case: case.peer.shutdown(socket.SHUT_WR),
    "peer_shut_both": lambda case: case.peer.shutdown(socket.SHUT_RDWR),
    "peer_close": lambda case: case.peer.close(),
    "peer_reset": _peer_reset,
    "killed": lambda case: case.kill_owner(),
    "duplicate": _last_duplicate,
    "dup2": _dup2,
    "in_flight": _in_flight,
    "collected": _collected,
    "in_flight_to_itself": _in_flight_to_itself,
    "stolen": _stolen,
    "namespace": _namespace,
    "detach": lambda case: case.detach(),
    "swap": lambda case: case.swap(),
    "link": lambda case: case.drop_links(),
    "close_both": _second("close"),
    "delete_one": _second("delete"),
    "destroy_one": _second("destroy"),
    "unpin": _unpin,
    # The program that redirects to the socket still holds the map.
    "held": lambda case: case.drop_home(),
}
"""By name; each raises OSError where the kernel refuses."""
