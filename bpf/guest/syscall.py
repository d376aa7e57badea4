# SPDX-License-Identifier: GPL-2.0-only
"""bpf(2) by ctypes: create maps, load programs, attach them, insert sockets.

Written for a guest that emulates its processor: every attribute block is packed into one buffer made at import, and
nothing is allocated that can be kept. The functions are therefore not thread-safe. All raise OSError with the
kernel's errno.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not imported at run time: a caller that only needs bpf(2) works without built programs.
    from bpf.guest.programs import Definition

MAP_TYPES = {"array": 2, "sockmap": 15, "sockhash": 18}
ATTACH_TYPES = {"sk_skb_stream_parser": 4, "sk_skb_stream_verdict": 5, "sk_msg_verdict": 7, "sk_skb_verdict": 38}
F_INGRESS = 1

_PROGRAM_TYPES = {"sk_skb": 14, "sk_msg": 16}
_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _PROG_LOAD, _PROG_ATTACH, _PROG_DETACH = 0, 1, 2, 3, 5, 8, 9
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_LOG_SIZE = 1 << 16

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
_syscall.restype = ctypes.c_long
_number = _NUMBERS[platform.machine()]

# The attribute block, then a key and a value for the commands that point at them.
_memory = ctypes.create_string_buffer(64 + 8 + 256)
_attributes = ctypes.addressof(_memory)
_key = _attributes + 64
_value = _attributes + 72

_CREATE = struct.Struct("=5I")
_ELEMENT = struct.Struct("=I4xQQQ")
_ELEMENT_U32 = struct.Struct("=I4xQQQ32xI4xI")
_ELEMENT_U64 = struct.Struct("=I4xQQQ32xI4xQ")
_ATTACH = struct.Struct("=4I")
_LOAD = struct.Struct("=IIQQIIQ")
_IMMEDIATE = struct.Struct("=i")


def create_map(kind: int, key_size: int, value_size: int, max_entries: int, flags: int = 0) -> int:
    """Create a map and return its descriptor; `kind` is the kernel's number, see `MAP_TYPES`."""
    _CREATE.pack_into(_memory, 0, kind, key_size, value_size, max_entries, flags)
    return _bpf(_MAP_CREATE, _CREATE.size)


def update(map_fd: int, key: int, value: int, flags: int = 0) -> None:
    """Set `map[key] = value`, both u32: for SOCKMAP and SOCKHASH the value is the descriptor of the socket."""
    _ELEMENT_U32.pack_into(_memory, 0, map_fd, _key, _value, flags, key, value)
    _bpf(_UPDATE, _ELEMENT.size)


def update_wide(map_fd: int, key: int, value: int, flags: int = 0) -> None:
    """Set `map[key] = value`, a u32 and a u64: only such a map returns the cookie of a socket."""
    _ELEMENT_U64.pack_into(_memory, 0, map_fd, _key, _value, flags, key, value)
    _bpf(_UPDATE, _ELEMENT.size)


def lookup(map_fd: int, key: int, value_size: int) -> bytes:
    """Return the value at a u32 key; `value_size` bytes, at most 256."""
    _ELEMENT_U32.pack_into(_memory, 0, map_fd, _key, _value, 0, key, 0)
    _bpf(_LOOKUP, _ELEMENT.size)
    return ctypes.string_at(_value, value_size)


def delete(map_fd: int, key: int) -> None:
    """Remove the entry at a u32 key."""
    _ELEMENT_U32.pack_into(_memory, 0, map_fd, _key, 0, 0, key, 0)
    _bpf(_DELETE, _ELEMENT.size)


def attach(map_fd: int, program_fd: int, attach_type: str) -> None:
    """Attach a program to a SOCKMAP or SOCKHASH; `attach_type` is a name from `ATTACH_TYPES`."""
    _ATTACH.pack_into(_memory, 0, map_fd, program_fd, ATTACH_TYPES[attach_type], 0)
    _bpf(_PROG_ATTACH, _ATTACH.size)


def detach(map_fd: int, program_fd: int, attach_type: str) -> None:
    """Detach the program from the map; sockets already in the map keep it."""
    _ATTACH.pack_into(_memory, 0, map_fd, program_fd, ATTACH_TYPES[attach_type], 0)
    _bpf(_PROG_DETACH, _ATTACH.size)


def call(command: int, attributes: bytearray) -> int:
    """Call bpf(2) with any command and return its result; the kernel's output is in `attributes` afterwards."""
    block = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    result: int = _syscall(_number, command, ctypes.addressof(block), len(attributes))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Program:
    """One program of `bpf.guest.programs`, to be loaded as often as wanted."""

    def __init__(self, definition: Definition) -> None:
        self.maps = definition["maps"]
        self._type = _PROGRAM_TYPES[definition["section"]]
        self._relocations = [(index * 8 + 4, name) for index, name in definition["relocations"]]
        self._code = ctypes.create_string_buffer(definition["instructions"], len(definition["instructions"]))
        self._count = len(definition["instructions"]) // 8
        self._licence = ctypes.create_string_buffer(definition["licence"].encode())

    def load(self, maps: Mapping[str, int]) -> int:
        """Load the program with these map descriptors and return its own descriptor.

        If the verifier refuses it, the OSError carries the end of the verifier's log as second argument.
        """
        for offset, name in self._relocations:
            _IMMEDIATE.pack_into(self._code, offset, maps[name])
        return self._load()

    def _load(self, log: int = 0) -> int:
        code, licence = ctypes.addressof(self._code), ctypes.addressof(self._licence)
        _LOAD.pack_into(_memory, 0, self._type, self._count, code, licence, log and 1, log and _LOG_SIZE, log)
        try:
            return _bpf(_PROG_LOAD, _LOAD.size)
        except OSError as error:
            if log:
                raise
            refused = error
        buffer = ctypes.create_string_buffer(_LOG_SIZE)
        try:
            # Writing the log doubles the cost of a load, so it is asked for only now.
            os.close(self._load(ctypes.addressof(buffer)))
        except OSError:
            text = buffer.value.decode(errors="replace").strip()
            raise OSError(refused.errno, f"{refused.strerror}: {text[-2000:]}") from None
        raise refused


def _bpf(command: int, size: int) -> int:
    result: int = _syscall(_number, command, _attributes, size)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
