# SPDX-License-Identifier: GPL-2.0-only
"""Receive all a socket holds, and say which of the sent bytes it was.

One recvmmsg(2) takes up to `_SLOTS` messages with their boundaries, so that an empty socket costs one system call
and no Python exception: under emulation an exception costs as much as the call.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from itertools import accumulate

_SLOTS = 24
_SLOT_SIZE = 1 << 14
_HEADER = 64  # struct mmsghdr on 64 bits: struct msghdr (56), unsigned msg_len, padding
_HEADER_WORDS = _HEADER // 4
_LENGTH_WORD, _FLAGS_WORD = 14, 12

_HEX_LIMIT = 64
_ANCHOR = 8

_buffer = memoryview(bytearray(_SLOTS * _SLOT_SIZE))
_base = ctypes.addressof(ctypes.c_char.from_buffer(_buffer.obj))
_vectors = ctypes.create_string_buffer(
    b"".join(struct.pack("=QQ", _base + slot * _SLOT_SIZE, _SLOT_SIZE) for slot in range(_SLOTS))
)
_headers = bytearray(
    b"".join(
        struct.pack("=QI4xQQQQi4xI4x", 0, 0, ctypes.addressof(_vectors) + slot * 16, 1, 0, 0, 0, 0)
        for slot in range(_SLOTS)
    )
)
_headers_address = ctypes.addressof(ctypes.c_char.from_buffer(_headers))
_words = memoryview(_headers).cast("I")

_recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)

Segments = list[list[int] | str]
"""One message: `[offset, length]` into what was sent, or a string for bytes nobody sent."""


def drain(descriptor: int, *, stream: bool) -> list[bytes | str]:
    """Return the messages waiting on a socket, in order; `"eof"` and `"!ERRNO"` stand for an end and an error.

    `stream` says that an empty message is the end of the file (also true of seqpacket sockets).
    """
    found: list[bytes | str] = []
    while True:
        count = _recvmmsg(descriptor, _headers_address, _SLOTS, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return found
            found.append(f"!{errno.errorcode.get(number, number)}")
            # An error that stays would keep us here for ever; one that was pending has been taken by now.
            if found[-2:-1] == found[-1:]:
                return found
            continue
        for slot in range(count):
            length = _words[slot * _HEADER_WORDS + _LENGTH_WORD]
            if stream and not length:
                found.append("eof")
                return found
            start = slot * _SLOT_SIZE
            found.append(bytes(_buffer[start : start + length]))
            if _words[slot * _HEADER_WORDS + _FLAGS_WORD] & socket.MSG_TRUNC:
                found.append("!MSG_TRUNC")
        if count < _SLOTS:
            # Fewer than asked for: the queue was empty, or an error waits for the next call.
            return found


class Sent:
    """What one phase sent, to recognise it by."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._messages = messages
        self._all = b"".join(messages)

    def describe(self, received: Sequence[bytes | str]) -> list[Segments | str]:
        """Say of each message received on one socket, in order, which bytes it is made of."""
        described: list[Segments | str] = []
        cursor = 0
        for message in received:
            if isinstance(message, str):
                described.append(message)
            elif message and self._all.startswith(message, cursor):
                described.append([[cursor, len(message)]])
                cursor += len(message)
            else:
                segments, cursor = self._segments(message, cursor)
                described.append(segments)
        return described

    def _segments(self, message: bytes, cursor: int) -> tuple[Segments, int]:
        segments: Segments = []
        ends = set(accumulate(map(len, self._messages)))
        stray = bytearray()
        while message:
            offset, length = self._best(message, cursor, ends)
            if not length:
                skip = self._next_known(message)
                stray += message[:skip]
                message = message[skip:]
                continue
            if stray:
                segments.append(_hex(stray))
                stray.clear()
            if segments and isinstance(last := segments[-1], list) and sum(last) == offset:
                last[1] += length
            else:
                segments.append([offset, length])
            cursor = offset + length
            message = message[length:]
        if stray:
            segments.append(_hex(stray))
        return segments, cursor

    def _best(self, message: bytes, cursor: int, ends: set[int]) -> tuple[int, int]:
        """Return the longest match of the start of `message`: what is due next, then whole messages, then anywhere."""
        offsets = [cursor, 0, *sorted(ends)]
        if len(message) >= _ANCHOR and (found := self._all.find(message[:_ANCHOR])) >= 0:
            offsets.append(found)
        best = (cursor, 0)
        for offset in offsets:
            length = self._common(message, offset)
            # A few equal bytes are chance, unless they end where the message or what was sent with them ends.
            credible = length >= _ANCHOR or length == len(message) or offset + length in ends
            if credible and length > best[1]:
                best = (offset, length)
        return best

    def _next_known(self, message: bytes) -> int:
        """Return how many bytes to skip until something may match again, at least one."""
        last = max(1, len(message) - _ANCHOR)
        return next((skip for skip in range(1, last) if message[skip : skip + _ANCHOR] in self._all), last)

    def _common(self, message: bytes, offset: int) -> int:
        """Return how many first bytes of `message` are what was sent at `offset`."""
        low, high = 0, min(len(message), len(self._all) - offset)
        while low < high:
            middle = (low + high + 1) // 2
            if self._all.startswith(message[:middle], offset):
                low = middle
            else:
                high = middle - 1
        return low


def _hex(stray: bytes | bytearray) -> str:
    text = stray[:_HEX_LIMIT].hex()
    return text if len(stray) <= _HEX_LIMIT else f"{text}...({len(stray)} bytes)"
