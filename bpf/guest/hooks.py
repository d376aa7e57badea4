# SPDX-License-Identifier: GPL-2.0-only
"""Load programs of `bpf.guest.programs` for any hook, and run iterators. All raise OSError with the kernel's errno."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bpf.guest import assemble
from bpf.guest.contexts import Context
from bpf.guest.syscall import call

if TYPE_CHECKING:
    from bpf.guest.programs import Definition

ALLOW_OVERRIDE, ALLOW_MULTI = 1, 2
"""Flags of attaching to a cgroup."""
TRACE_ITER = 28

_LINK_CREATE, _ITER_CREATE = 28, 33
_CHUNK = 1 << 16


def load(definition: Definition, context: Context, maps: Mapping[str, int]) -> int:
    """Load a program for a hook with these map descriptors, and return its own descriptor.

    LookupError if the kernel has no such hook; the OSError of a refused program carries the end of the verifier's log.
    """
    code = bytearray(definition["instructions"])
    for index, name in definition["relocations"]:
        struct.pack_into("=i", code, index * 8 + 4, maps[name])
    try:
        return assemble.load_program(context, bytes(code))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {assemble.verify(context, bytes(code))[1][-2000:]}") from error


def iterate(program: int, map_fd: int | None = None) -> Iterator[int]:
    """Run an iterator over a map or over its hook's objects; yield the data of each read(2)."""
    target = ctypes.create_string_buffer(struct.pack("=I", map_fd or 0))
    info, size = (0, 0) if map_fd is None else (ctypes.addressof(target), 4)
    link = call(_LINK_CREATE, bytearray(struct.pack("=4IQI", program, 0, TRACE_ITER, 0, info, size)))
    try:
        reader = call(_ITER_CREATE, bytearray(struct.pack("=II", link, 0)))
    finally:
        os.close(link)
    try:
        while data := os.read(reader, _CHUNK):
            yield len(data)
    finally:
        os.close(reader)
