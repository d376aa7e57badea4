# SPDX-License-Identifier: GPL-2.0-only
"""Send, know when all has arrived, receive it, and say which of the sent bytes it was."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from conformance.guestlib.answers import error_name, outcome
from conformance.guestlib.quiesce import fences

UNSENT = 0x894B
"""SIOCOUTQNSD: how many bytes TCP has not sent even once."""
ROOM = 1 << 16
"""Bytes that a message has at most."""

# One recvmmsg(2) takes up to so many messages with their boundaries, so that an empty socket costs one system call and
# no Python exception: under emulation an exception costs as much as the call.
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

Messages = list[bytes | str]
"""Messages in order; `"eof"` and `"!ERRNO"` stand for an end and an error."""
Segments = list[list[int] | str]
"""One message: `[offset, length]` into what was sent, or a string for bytes that were never sent."""

_WORDS = 96
_number = itertools.count(1)


def payload() -> bytes:
    """Return bytes that this process never sent before."""
    return struct.pack("=Q", next(_number)) * _WORDS


def send(through: socket.socket, data: bytes) -> str:
    """Send without waiting; `"ok"`, or the errno's name, or how much of it was taken."""
    count = outcome(through.send, data, socket.MSG_DONTWAIT)
    return count if isinstance(count, str) else "ok" if count == len(data) else f"{count} of {len(data)}"


def count(end: socket.socket | int, request: int) -> int:
    """Ask by ioctl(2) for a number of bytes: FIONREAD, TIOCOUTQ, `UNSENT`."""
    return int(struct.unpack("=i", fcntl.ioctl(end, request, bytes(4)))[0])


def pending_error(end: socket.socket) -> str:
    """Take SO_ERROR: `"ok"` or the errno."""
    return error_name(end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def drain(descriptor: int, *, stream: bool) -> Messages:
    """Return the messages waiting on a socket, in order.

    `stream` says that an empty message is the end of the file (also true of seqpacket sockets).
    """
    found: Messages = []
    while True:
        received = _recvmmsg(descriptor, _headers_address, _SLOTS, socket.MSG_DONTWAIT, None)
        if received < 0:
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                return found
            found.append(f"!{error_name(number)}")
            # An error that stays would make this loop endless; a pending one is cleared by now.
            if found[-2:-1] == found[-1:]:
                return found
            continue
        for slot in range(received):
            length = _words[slot * _HEADER_WORDS + _LENGTH_WORD]
            if stream and not length:
                found.append("eof")
                return found
            start = slot * _SLOT_SIZE
            found.append(bytes(_buffer[start : start + length]))
            if _words[slot * _HEADER_WORDS + _FLAGS_WORD] & socket.MSG_TRUNC:
                found.append("!MSG_TRUNC")
        if received < _SLOTS:
            # Fewer than asked for: the queue was empty, or an error waits for the next call.
            return found


def take_all(end: socket.socket, *, stream: bool) -> Messages:
    """Do the same by recv(2): recvmmsg(2) reports a pending error first, and puts back one that it meets after data."""
    found: Messages = []
    while True:
        data = outcome(end.recv, ROOM, socket.MSG_DONTWAIT)
        if data == "EAGAIN":
            return found
        if isinstance(data, str):
            found.append(f"!{data}")
        else:
            found.append("eof" if stream and not data else data)
        # An end stays, and an error that stays would make this loop endless.
        if found[-1] == "eof" or (isinstance(data, str) and found[-2:-1] == found[-1:]):
            return found


def add(found: Messages, messages: Messages) -> None:
    """Append what was received; an end or an error that stays is reported once, however often recv(2) returns it."""
    if messages and not (isinstance(messages[0], str) and messages == found[-1:]):
        found += messages


def size_of(messages: Iterable[bytes | str]) -> int:
    """Return how many bytes were received."""
    return sum([len(each) for each in messages if isinstance(each, bytes)])


@dataclass(frozen=True, slots=True)
class Rest:
    """How `settle` ended."""

    settled: bool
    """False if the deadline passed before the kernel was at rest."""
    arrived: bool = True
    """Whether the last round of fences came back."""
    waited: float = 0.0
    """Seconds without movement that the case waited for missing data."""


def settle(
    look: Callable[[], object],
    missing: Callable[[], int],
    grace: Callable[[], float],
    deadline: float,
    *,
    vsock: bool,
    runs: Callable[[], object] = tuple,
    busy: Callable[[], bool] = bool,
    looks: int = 0,
    arrived: bool = False,
) -> Rest:
    """Follow what was sent until the kernel is at rest and nothing is missing, or for so long at rest; see `quiesce`.

    `look` receives, `missing` then returns how many bytes did not come yet. The kernel is at rest if, since a round of
    fences began, no program ran (`runs` is as before) and nothing is `busy`. A machine that its host keeps from running
    loses time, but no look: it has at least so many. The first does without fences if all has `arrived` before it.
    """
    start = rest = 0.0
    while True:
        first = arrived or not vsock or fences().vsock()
        before = runs()
        # Also behind a first that did not come back: what can still arrive is to arrive.
        back = arrived or (fences().backlog() and (not vsock or fences().vsock()) and first)
        arrived = False
        look()
        looks -= 1
        quiet = back and before == runs() and not busy()
        if quiet and missing() <= 0:
            return Rest(settled=True)
        now = time.monotonic()
        start = start or now
        rest = (rest or now) if quiet else 0.0
        if rest and looks <= 0 and now - rest > grace():
            return Rest(settled=True, waited=now - rest)
        if now - start > deadline:
            return Rest(settled=False, arrived=back)


class Parts:
    """What was sent in known parts, and what of it was received, by the names of sockets."""

    def __init__(self, parts: Mapping[str, bytes], names: Iterable[str]) -> None:
        self._parts = parts
        self.messages: dict[str, Messages] = {name: [] for name in names}

    def missing(self) -> int:
        """Return how many bytes were not received."""
        return sum(map(len, self._parts.values())) - sum(map(size_of, self.messages.values()))

    def place(self, part: str) -> str:
        """Say on which sockets a part came out, each byte of it once and in order; `"nowhere"` if on none."""
        places = []
        for name, data in self._received():
            if (times := data.count(self._parts[part])) > 0:
                places.append(name if times == 1 else f"{name} {times} times")
            elif data and self._parts[part].startswith(data):
                places.append(f"{name} the beginning")
        return ", ".join(places) or "nowhere"

    def places(self) -> str:
        """Name the sockets that data came out of; where it was not all of it and in order, what it was."""
        places = []
        for name, data in self._received():
            if data:
                known = self._recognise(data)
                places.append(name if known == list(self._parts) else f"{name} ({' + '.join(known)})")
            places += [f"{name} {each}" for each in self.messages[name] if isinstance(each, str)]
        return ", ".join(places) or "nowhere"

    def others(self) -> dict[str, str]:
        """Return what else came: ends and errors by socket, and bytes that were not sent in this form."""
        results: dict[str, list[str]] = {}
        for name, data in self._received():
            rest = data
            for part in self._parts.values():
                rest = b"" if part.startswith(rest) else rest.replace(part, b"", 1)
            results[name] = [each for each in self.messages[name] if isinstance(each, str)]
            results[name] += [f"{len(rest)} bytes not sent so"] if rest else []
        return {f"{name}-reads": ", ".join(dict.fromkeys(what)) for name, what in results.items() if what}

    def _received(self) -> Iterable[tuple[str, bytes]]:
        for name, messages in self.messages.items():
            yield name, b"".join(each for each in messages if isinstance(each, bytes))

    def _recognise(self, data: bytes) -> list[str]:
        known: list[str] = []
        while data:
            name = next((name for name, part in self._parts.items() if data.startswith(part)), "")
            if not name:
                return [*known, f"{len(data)} bytes not sent so"]
            known.append(name)
            data = data[len(self._parts[name]) :]
        return known


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
