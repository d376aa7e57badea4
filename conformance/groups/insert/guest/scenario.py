# SPDX-License-Identifier: GPL-2.0-only
"""Insert one socket of a kind and in a state into a SOCKMAP or SOCKHASH, and see whether it is the right one."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack

from bpf.guest import maps
from bpf.guest import syscall
from conformance.groups.insert.guest.bench import Steps
from conformance.groups.insert.guest.bench import closed
from conformance.groups.insert.guest.bench import whose
from conformance.guestlib import states
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import name_of


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case; `params`: `map`, `kind`, `state`.

    Steps: `available`, alone, where this kernel has no such socket here; `make`; `state`, of TCP as the kernel says;
    `insert`; if that went well `lookup`, `cookie` being the right one, and `delete`. An answer is `ok` or an errno.
    """
    with ExitStack() as keep:
        map_fd = syscall.create_map(syscall.MAP_TYPES[params["map"]], 4, 8, 2)
        keep.callback(os.close, map_fd)
        kind = params["kind"]
        try:
            end = states.make(kind, params["state"], keep)
        except states.UnavailableError as error:
            return {"steps": {"available": name_of(error)}}
        except OSError as error:
            return {"steps": {"make": name_of(error)}}
        steps = {"make": "ok"}
        if kind in ("tcp4", "tcp6"):
            steps["state"] = states.tcp_state(end)
        steps["insert"] = attempt(syscall.update, map_fd, 0, end.fileno())
        if steps["insert"] == "ok":
            steps["lookup"] = whose(map_fd, 0, end)
            steps["delete"] = attempt(syscall.delete, map_fd, 0)
        return {"steps": steps}


def descriptor(params: Mapping[str, str]) -> dict[str, Steps]:
    """Insert what is no socket; `params`: `map`, `what`. Steps: `u32` and `u64`, by the size of the map's values."""
    with ExitStack() as keep:
        value = _DESCRIPTORS[params["what"]](keep)
        steps = {}
        for name, size in (("u32", 4), ("u64", 8)):
            map_fd = syscall.create_map(syscall.MAP_TYPES[params["map"]], 4, size, 2)
            keep.callback(os.close, map_fd)
            bytes_ = struct.pack("=Q", value & (1 << 64) - 1)[:size]
            steps[name] = attempt(maps.update, map_fd, bytes(4), bytes_)
        return {"steps": steps}


def _pipe(keep: ExitStack) -> int:
    reader, writer = os.pipe()
    keep.callback(os.close, reader)
    keep.callback(os.close, writer)
    return reader


def _file(keep: ExitStack) -> int:
    return keep.enter_context(tempfile.TemporaryFile()).fileno()


def _directory(keep: ExitStack) -> int:
    found = os.open("/", os.O_PATH)
    keep.callback(os.close, found)
    return found


def _socket(keep: ExitStack) -> int:
    """Open a socket that may be inserted, bound UDP."""
    return states.make("udp4", "bound", keep).fileno()


def _map(keep: ExitStack) -> int:
    found = syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 1)
    keep.callback(os.close, found)
    return found


def _path_socket(keep: ExitStack) -> int:
    """Open a UNIX socket's name, which is not the socket."""
    folder = keep.enter_context(tempfile.TemporaryDirectory())
    end = keep.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    end.bind(f"{folder}/name")
    found = os.open(f"{folder}/name", os.O_PATH)
    keep.callback(os.close, found)
    return found


_DESCRIPTORS = {
    "pipe": _pipe,
    "file": _file,
    "path": _directory,
    "map": _map,
    "closed": lambda keep: closed(),
    "largest-int": lambda keep: (1 << 31) - 1,
    "beyond-int": lambda keep: 1 << 31,
    "minus-one": lambda keep: -1,
    # The upper half of the value is not thrown away.
    "socket-and-high-bits": lambda keep: _socket(keep) | 1 << 32,
    "path-socket": _path_socket,
}
