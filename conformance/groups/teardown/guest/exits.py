# SPDX-License-Identifier: GPL-2.0-only
"""The ways out of a map, and what else may happen to a socket that is in one."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from collections.abc import Mapping
from typing import Final

from bpf.guest import links
from bpf.guest import maps
from bpf.guest import syscall
from conformance.groups.teardown.guest.setup import PATIENCE
from conformance.groups.teardown.guest.setup import SOCKET
from conformance.groups.teardown.guest.setup import Setup
from conformance.groups.teardown.guest.setup import await_freed
from conformance.guestlib import fixture
from conformance.guestlib import procfs
from conformance.guestlib import sockets
from conformance.guestlib import traffic
from conformance.guestlib.answers import comes_true
from conformance.guestlib.fixture import Map

_ABORT = struct.pack("=ii", 1, 0)
"""SO_LINGER: reset the connection instead of closing it in order."""


def _destroy(case: Setup) -> None:
    """Let go of the map, and wait until it is freed."""
    if case.redirector:
        case.redirector.close()
    case.drop_home()
    await_freed(case.witness)


def _peer_reset(case: Setup) -> None:
    """Have the peer close so that the socket is told of a reset: over UNIX that takes data the peer did not read."""
    if case.kind == "unix_stream":
        traffic.send(case.end, traffic.payload())
    case.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    case.peer.close()


def _duplicate(case: Setup) -> None:
    """Close the socket, then its last duplicate."""
    duplicate = os.dup(case.end.fileno())
    case.end.close()
    case.note_kept()
    os.close(duplicate)


def _dup2(case: Setup) -> None:
    """Have dup2(2) close the descriptor of the socket and give its number to another file."""
    number = case.end.detach()
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), number)
    os.close(number)


def _in_flight(case: Setup) -> None:
    """Close the socket while a duplicate is in flight, then the socket whose queue that is in."""
    here, there = socket.socketpair()
    socket.send_fds(here, [b"!"], [case.end.fileno()])
    case.end.close()
    case.note_kept()
    here.close()
    there.close()


def _stolen(case: Setup) -> None:
    """Have the owner close, then close what was stolen."""
    assert case.owner
    case.owner.close()
    case.note_kept()
    case.end.close()


def _killed(case: Setup) -> None:
    """Leave the socket to its owner, and kill that."""
    assert case.owner
    case.end.close()
    case.note_kept()
    case.owner.kill()
    case.owner.reap()


def _namespace(case: Setup) -> None:
    """Have the last process leave the network namespace of the socket and its peer, then close both."""
    case.fixture.drop(case.namespace)
    case.note_kept()
    case.end.close()
    case.peer.close()


def _detach(case: Setup) -> None:
    for attach_type, program in case.programs:
        syscall.detach(case.home, program.descriptor, attach_type)


def _destroy_links(case: Setup) -> None:
    """Let go of the links that hold the programs in the map, and wait until it has none."""
    for link in case.links:
        case.fixture.drop(link)
    numbers = [syscall.ATTACH_TYPES[attach_type] for attach_type, _ in case.programs]
    if not comes_true(lambda: not any(links.query(case.home, number) for number in numbers), PATIENCE, os.sched_yield):
        raise TimeoutError("a link that nobody has holds on to its program")


def _swap(case: Setup) -> None:
    """Attach other programs in the place of those the socket runs."""
    for attach_type, _ in case.programs:
        syscall.attach(case.home, fixture.counting(attach_type, "second").descriptor, attach_type)


def _second(leave: Callable[[Setup], object]) -> Callable[[Setup], object]:
    """Leave the map, but not another map without programs."""

    def leave_one(case: Setup) -> None:
        case.second = case.new_map()
        syscall.update_wide(case.second, SOCKET, case.end.fileno())
        leave(case)

    return leave_one


def _unpin(case: Setup) -> None:
    """Have a name be the last that keeps the map, and remove that."""
    if case.redirector:
        case.redirector.close()
    with procfs.file_system("bpf") as path:
        maps.pin(case.home, f"{path}/home")
        case.fixture.drop(case.home)
        case.home = Map(case.fixture.keep(maps.open_pinned(f"{path}/home")))
        case.note_kept()
        case.drop_home()
    await_freed(case.witness)


EXITS: Final[Mapping[str, Callable[[Setup], object]]] = {
    "close": lambda case: case.end.close(),
    "delete": lambda case: syscall.delete(case.home, SOCKET),
    "destroy": _destroy,
    "disconnect": lambda case: sockets.disconnect(case.end),
    "replace": lambda case: syscall.update_wide(case.home, SOCKET, case.stranger().fileno()),
    "itself": lambda case: syscall.update_wide(case.home, SOCKET, case.end.fileno()),
    "shut_rd": lambda case: case.end.shutdown(socket.SHUT_RD),
    "shut_wr": lambda case: case.end.shutdown(socket.SHUT_WR),
    "shut_both": lambda case: case.end.shutdown(socket.SHUT_RDWR),
    "peer_shut_rd": lambda case: case.peer.shutdown(socket.SHUT_RD),
    "peer_shut_wr": lambda case: case.peer.shutdown(socket.SHUT_WR),
    "peer_shut_both": lambda case: case.peer.shutdown(socket.SHUT_RDWR),
    "peer_close": lambda case: case.peer.close(),
    "peer_reset": _peer_reset,
    "duplicate": _duplicate,
    "dup2": _dup2,
    "in_flight": _in_flight,
    "stolen": _stolen,
    "killed": _killed,
    "namespace": _namespace,
    "detach": _detach,
    "link": _destroy_links,
    "swap": _swap,
    "close_both": _second(lambda case: case.end.close()),
    "delete_one": _second(lambda case: syscall.delete(case.home, SOCKET)),
    "destroy_one": _second(_destroy),
    "unpin": _unpin,
    # The program that redirects to the socket still holds the map.
    "held": lambda case: case.drop_home(),
}
"""By name; each raises OSError where the kernel refuses."""
