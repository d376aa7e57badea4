# SPDX-License-Identifier: GPL-2.0-only
"""Assemble BPF programs from single instructions, in the guest: for probes that are too many and too small for C."""

from __future__ import annotations

import ctypes
import os
import struct

from bpf.guest import btf, syscall
from bpf.guest.contexts import Context

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, STACK = range(11)

_INSTRUCTION = struct.Struct("=BBhi")
# prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, prog_flags, expected_attach_type, attach_btf_id
_LOAD = struct.Struct("=IIQQIIQ4xI20xI36xII")
_PROG_LOAD = 5
_LOG_SIZE = 1 << 16

_LOG_STATS = 4
"""Log level for errors and a summary: 06ee7115b0d1 ("bpf: add verifier stats and log_level bit 2"), 5.2."""

_log = ctypes.create_string_buffer(_LOG_SIZE)
_LICENCE = ctypes.create_string_buffer(b"GPL")


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, source << 4 | to, offset, immediate)


EXIT = _instruction(0x95)


def put(to: int, value: int) -> bytes:
    """Put a number into a register."""
    return _instruction(0xB7, to, immediate=value)


def move(to: int, source: int) -> bytes:
    """Copy a register."""
    return _instruction(0xBF, to, source)


def add(to: int, value: int) -> bytes:
    """Add a number to a register."""
    return _instruction(0x07, to, immediate=value)


def load(to: int, source: int, offset: int) -> bytes:
    """Load 8 bytes from memory."""
    return _instruction(0x79, to, source, offset)


def load_word(to: int, source: int, offset: int) -> bytes:
    """Load 4 bytes from memory."""
    return _instruction(0x61, to, source, offset)


def load_byte(to: int, source: int) -> bytes:
    """Load 1 byte from memory."""
    return _instruction(0x71, to, source)


def store_byte(to: int, value: int) -> bytes:
    """Store a number as 1 byte."""
    return _instruction(0x72, to, immediate=value)


def store(to: int, offset: int, value: int) -> bytes:
    """Store a number as 8 bytes."""
    return _instruction(0x7A, to, offset=offset, immediate=value)


def count(to: int, offset: int) -> bytes:
    """Add R1 to 8 bytes of memory, atomically."""
    return _instruction(0xDB, to, R1, offset)


def put_map(to: int, descriptor: int) -> bytes:
    """Put a map into a register."""
    return _instruction(0x18, to, 1, immediate=descriptor) + _instruction(0)


def put_map_value(to: int, descriptor: int, offset: int = 0) -> bytes:
    """Put the address of an array's first value, plus an offset, into a register."""
    return _instruction(0x18, to, 2, immediate=descriptor) + _instruction(0, immediate=offset)


def call(helper: int) -> bytes:
    """Call a helper."""
    return _instruction(0x85, immediate=helper)


def call_after(code: bytes) -> bytes:
    """Call the function that comes right after `code`."""
    return _instruction(0x85, 0, 1, immediate=len(code) // _INSTRUCTION.size)


def if_room(bounds: bytes, size: int, body: bytes) -> bytes:
    """Run a body if the packet, whose begin and end `bounds` puts into R2 and R3, has so many bytes."""
    end = move(R4, R2) + add(R4, size)
    return bounds + end + _instruction(0x2D, R4, R3, len(body) // _INSTRUCTION.size) + body


def unless_zero(register: int, body: bytes) -> bytes:
    """Run a body unless a register is 0."""
    return _instruction(0x15, register, offset=len(body) // _INSTRUCTION.size) + body


def load_program(context: Context, code: bytes, log: ctypes.Array[ctypes.c_char] | None = None) -> int:
    """Load a program and return its descriptor; LookupError if the kernel has no such function to load it for.

    The verifier writes its error into `log`, but not its steps, which would make it twice as slow.
    """
    instructions = ctypes.create_string_buffer(code, len(code))
    attributes = _LOAD.pack(
        context.type,
        len(code) // _INSTRUCTION.size,
        ctypes.addressof(instructions),
        ctypes.addressof(_LICENCE),
        _LOG_STATS if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        context.flags,
        context.attach_type,
        btf.function_id(context.function) if context.function else 0,
        0,
    )
    return syscall.call(_PROG_LOAD, bytearray(attributes))


def verify(context: Context, code: bytes) -> tuple[int, str]:
    """Load a program and close it; return 0 or the errno, and the verifier's log, if the verifier ran.

    LookupError as of `load_program`.
    """
    _log[0] = b"\0"
    try:
        os.close(load_program(context, code, _log))
    except OSError as error:
        return error.errno or 0, _log.value.decode(errors="replace")
    return 0, ""
