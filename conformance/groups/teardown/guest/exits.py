# SPDX-License-Identifier: GPL-2.0-only
"""The ways out of a map, and what else may happen to a socket that is in one."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable
from collections.abc import Mapping
from typing import Final

from bpf.guest import links
from bpf.guest import maps
from bpf.guest import syscall
from conformance.groups.teardown.guest.scene import PATIENCE
from conformance.groups.teardown.guest.scene import SOCKET
from conformance.groups.teardown.guest.scene import Scene
from conformance.groups.teardown.guest.scene import await_freed
from conformance.guestlib import kit
from conformance.guestlib.patience import comes_true
from conformance.guestlib.servant import send

_UNSPECIFIED = ctypes.create_string_buffer(16)
_LIBC = ctypes.CDLL(None, use_errno=True)
_ABORT = struct.pack("=ii", 1, 0)
"""SO_LINGER: reset the connection instead of closing it in order."""


def _close(scene: Scene) -> None:
    scene.end.close()


def _delete(scene: Scene) -> None:
    syscall.delete(scene.home, SOCKET)


def _destroy(scene: Scene) -> None:
    """Let go of the map, and wait until it is freed."""
    if scene.redirector:
        scene.redirector.close()
    scene.drop(scene.home)
    scene.home = -1
    await_freed(scene.witness)


def _disconnect(scene: Scene) -> None:
    if _LIBC.connect(scene.end.fileno(), _UNSPECIFIED, len(_UNSPECIFIED)):
        raise OSError(ctypes.get_errno(), "connect")


def _replace(scene: Scene) -> None:
    syscall.update_wide(scene.home, SOCKET, scene.stranger().fileno())


def _replace_by_itself(scene: Scene) -> None:
    syscall.update_wide(scene.home, SOCKET, scene.end.fileno())


def _shut(whose: str, how: int) -> Callable[[Scene], None]:
    return lambda scene: getattr(scene, whose).shutdown(how)


def _peer_close(scene: Scene) -> None:
    scene.peer.close()


def _peer_reset(scene: Scene) -> None:
    """Have the peer close so that the socket is told of a reset: over UNIX that takes data the peer did not read."""
    if scene.kind == "unix_stream":
        send(scene.end, scene.payload())
    scene.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    scene.peer.close()


def _duplicate(scene: Scene) -> None:
    """Close the socket, then its last duplicate."""
    duplicate = os.dup(scene.end.fileno())
    scene.end.close()
    scene.note_kept()
    os.close(duplicate)


def _dup2(scene: Scene) -> None:
    """Have dup2(2) close the descriptor of the socket and give its number to another file."""
    number = scene.end.detach()
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), number)
    os.close(number)


def _in_flight(scene: Scene) -> None:
    """Close the socket while a duplicate is in flight, then the socket whose queue that is in."""
    here, there = socket.socketpair()
    socket.send_fds(here, [b"!"], [scene.end.fileno()])
    scene.end.close()
    scene.note_kept()
    here.close()
    there.close()


def _stolen(scene: Scene) -> None:
    """Have the owner close, then close what was stolen."""
    assert scene.owner
    scene.owner.close()
    scene.note_kept()
    scene.end.close()


def _killed(scene: Scene) -> None:
    """Leave the socket to its owner, and kill that."""
    assert scene.owner
    scene.end.close()
    scene.note_kept()
    scene.owner.kill()
    scene.owner.reap()


def _namespace(scene: Scene) -> None:
    """Have the last process leave the network namespace of the socket and its peer, then close both."""
    assert scene.namespace
    scene.namespace.leave()
    scene.note_kept()
    scene.end.close()
    scene.peer.close()


def _detach(scene: Scene) -> None:
    for attach_type, program in scene.programs:
        syscall.detach(scene.home, program.descriptor, attach_type)


def _destroy_links(scene: Scene) -> None:
    """Let go of the links that hold the programs in the map, and wait until it has none."""
    for link in scene.links:
        scene.drop(link)
    numbers = [syscall.ATTACH_TYPES[attach_type] for attach_type, _ in scene.programs]
    if not comes_true(lambda: not any(links.query(scene.home, number) for number in numbers), PATIENCE, os.sched_yield):
        raise TimeoutError("a link that nobody has holds on to its program")


def _swap(scene: Scene) -> None:
    """Attach other programs in the place of those the socket runs."""
    for attach_type, _ in scene.programs:
        syscall.attach(scene.home, kit.program(attach_type, "second").descriptor, attach_type)


def _second(leave: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Leave the map, but not another map without programs."""

    def leave_one(scene: Scene) -> None:
        scene.second = scene.new_map()
        syscall.update_wide(scene.second, SOCKET, scene.end.fileno())
        leave(scene)

    return leave_one


def _unpin(scene: Scene) -> None:
    """Have a name be the last that keeps the map, and remove that."""
    if scene.redirector:
        scene.redirector.close()
    with links.file_system() as path:
        maps.pin(scene.home, f"{path}/home")
        scene.drop(scene.home)
        scene.home = scene.keep(maps.open_pinned(f"{path}/home"))
        scene.note_kept()
        scene.drop(scene.home)
        scene.home = -1
    await_freed(scene.witness)


def _held(scene: Scene) -> None:
    """Let go of the map, which the program that redirects to the socket still holds."""
    scene.drop(scene.home)
    scene.home = -1


EXITS: Final[Mapping[str, Callable[[Scene], None]]] = {
    "close": _close,
    "delete": _delete,
    "destroy": _destroy,
    "disconnect": _disconnect,
    "replace": _replace,
    "itself": _replace_by_itself,
    "shut_rd": _shut("end", socket.SHUT_RD),
    "shut_wr": _shut("end", socket.SHUT_WR),
    "shut_both": _shut("end", socket.SHUT_RDWR),
    "peer_shut_rd": _shut("peer", socket.SHUT_RD),
    "peer_shut_wr": _shut("peer", socket.SHUT_WR),
    "peer_shut_both": _shut("peer", socket.SHUT_RDWR),
    "peer_close": _peer_close,
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
    "close_both": _second(_close),
    "delete_one": _second(_delete),
    "destroy_one": _second(_destroy),
    "unpin": _unpin,
    "held": _held,
}
"""By name; each raises OSError where the kernel refuses."""
