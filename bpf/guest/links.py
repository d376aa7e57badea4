# SPDX-License-Identifier: GPL-2.0-only
"""Attach, detach and query programs by bpf(2), by hand and by links.

Attach types are the kernel's numbers here, so that wrong ones can be asked for. All raise OSError with the kernel's
errno.
"""

from __future__ import annotations

import ctypes
import struct

from bpf.guest import maps
from bpf.guest.syscall import call

F_REPLACE = 1 << 2
"""BPF_F_REPLACE: an update of a link is made only if the old program is the one named."""
SOCKMAP_LINK = 14
"""BPF_LINK_TYPE_SOCKMAP."""

_PROG_ATTACH, _PROG_DETACH, _PROGRAM_BY_ID, _PROG_QUERY = 8, 9, 13, 16
_LINK_CREATE, _LINK_UPDATE, _LINK_DETACH = 28, 29, 34

_QUERY = struct.Struct("=4IQI")


def attach(target: int, program: int, kind: int, flags: int = 0, replaced: int = 0) -> None:
    """Attach a program to a map."""
    call(_PROG_ATTACH, bytearray(struct.pack("=5I", target, program, kind, flags, replaced)))


def detach(target: int, program: int, kind: int, flags: int = 0) -> None:
    """Detach a program from a map."""
    call(_PROG_DETACH, bytearray(struct.pack("=4I", target, program, kind, flags)))


def query(target: int, kind: int, flags: int = 0, room: int = 4) -> list[int]:
    """Return the ids of the programs attached to a map; zeros in their place if `room` is 0."""
    found = (ctypes.c_uint32 * 4)()
    attributes = bytearray(_QUERY.pack(target, kind, flags, 0, ctypes.addressof(found), room))
    call(_PROG_QUERY, attributes)
    return list(found[: _QUERY.unpack(attributes)[-1]])


def create(target: int, program: int, kind: int, flags: int = 0) -> int:
    """Attach a program to a map by a link and return the link's descriptor."""
    return call(_LINK_CREATE, bytearray(struct.pack("=4I", program, target, kind, flags)))


def update(link: int, program: int, flags: int = 0, old: int = 0) -> None:
    """Replace the program of a link."""
    call(_LINK_UPDATE, bytearray(struct.pack("=4I", link, program, flags, old)))


def detach_link(link: int) -> None:
    """Detach a link's program, even if other descriptors of the link exist."""
    call(_LINK_DETACH, bytearray(struct.pack("=I", link)))


def program_id(program: int) -> int:
    """Return the id of a program."""
    return int(struct.unpack_from("=I", maps.raw_info(program), 4)[0])


def program_by_id(number: int) -> int:
    """Open a program by its id and return its descriptor."""
    return call(_PROGRAM_BY_ID, bytearray(struct.pack("=3I", number, 0, 0)))


def link_info(link: int) -> tuple[int, int, int, int]:
    """Return the type of a link to a map, the ids of program and map, and the attach type."""
    kind, _, program, target, attach_type = struct.unpack_from("=III4xII", maps.raw_info(link))
    return kind, program, target, attach_type
