# SPDX-License-Identifier: GPL-2.0-only
"""Length-prefixed JSON on a byte stream: the protocol of the control channel, for both ends."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

HEADER = struct.Struct(">2sI")
MARK = b"\xf5\x0a"
"""Begins every frame, so that noise is recognised at once: no UTF-8 text has such a byte."""
LIMIT = 64 << 20
CHUNK = 1 << 16


class FramingError(ValueError):
    """The received bytes are not a frame."""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def encode(message: Any) -> bytes:
    """Return `message` as one frame; TypeError if it is not JSON."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return HEADER.pack(MARK, len(body)) + body


class FrameBuffer:
    """Collect received bytes and return whole messages."""

    def __init__(self, limit: int = LIMIT) -> None:
        """Accept frames up to a number of bytes."""
        self._pending = bytearray()
        self._limit = limit

    @property
    def pending(self) -> int:
        """The number of bytes of an unfinished frame."""
        return len(self._pending)

    def feed(self, chunk: bytes) -> None:
        """Add received bytes."""
        self._pending += chunk

    def pop(self) -> dict[str, Any] | None:
        """Return the next whole message, None if there is none yet; FramingError on nonsense."""
        if len(self._pending) < HEADER.size:
            return None
        mark, length = HEADER.unpack_from(self._pending)
        if mark != MARK:
            raise FramingError(f"no frame begins with {bytes(self._pending[:16]).hex(' ')}")
        if length > self._limit:
            raise FramingError(f"a frame of {length} bytes is announced, the limit is {self._limit}")
        end = HEADER.size + length
        if len(self._pending) < end:
            return None
        body = bytes(self._pending[HEADER.size : end])
        del self._pending[:end]
        try:
            message = _DECODER.decode(body.decode())
        except (ValueError, RecursionError) as error:
            raise FramingError(f"a frame is not JSON: {error}; it begins with {body[:64]!r}") from error
        if not isinstance(message, dict):
            raise FramingError(f"a frame is not an object; it begins with {body[:64]!r}")
        return message


class Channel:
    """Blocking messages on a pair of descriptors."""

    def __init__(self, reader: int, writer: int | None = None) -> None:
        self.reader = reader
        self.writer = reader if writer is None else writer
        self._buffer = FrameBuffer()

    def send(self, message: Any) -> None:
        """Write one message."""
        self.write(encode(message))

    def write(self, frame: bytes) -> None:
        """Write a frame that is encoded already."""
        data = memoryview(frame)
        while data:
            data = data[os.write(self.writer, data) :]

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None at the end of the stream."""
        while (message := self._buffer.pop()) is None:
            chunk = os.read(self.reader, CHUNK)
            if not chunk:
                return None
            self._buffer.feed(chunk)
        return message

    def buffered(self) -> dict[str, Any] | None:
        """Return the next message if it has been read already."""
        return self._buffer.pop()

    def close(self) -> None:
        """Close both descriptors."""
        for descriptor in {self.reader, self.writer}:
            os.close(descriptor)
