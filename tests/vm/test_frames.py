# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from hypothesis import given, strategies

from vm.guest.frames import HEADER, LIMIT, MARK, Channel, FrameBuffer, FramingError, encode

messages = strategies.dictionaries(strategies.text(max_size=8), strategies.integers() | strategies.text(max_size=20))


@given(strategies.lists(messages, max_size=6), strategies.lists(strategies.integers(1, 9), min_size=1))
def test_messages_survive_any_split_of_the_stream(sent: list[dict[str, Any]], sizes: list[int]) -> None:
    """However the bytes are cut into reads, the same messages come out in the same order."""
    stream = b"".join(encode(message) for message in sent)
    buffer = FrameBuffer()
    received = []
    position = 0
    turn = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        buffer.feed(stream[position : position + size])
        position += size
        turn += 1
        while (message := buffer.pop()) is not None:
            received.append(message)
    assert received == sent


@pytest.mark.parametrize(
    "nonsense",
    [HEADER.pack(MARK, LIMIT + 1), HEADER.pack(MARK, 2) + b"{]", HEADER.pack(MARK, 1) + b"\xff", b"oops: \x00"],
)
def test_nonsense_is_refused(nonsense: bytes) -> None:
    """A length beyond the limit, a body that is not JSON and plain noise are errors, not waits without end."""
    buffer = FrameBuffer()
    buffer.feed(nonsense)
    with pytest.raises(FramingError):
        buffer.pop()


def test_channel_carries_more_than_a_pipe_holds() -> None:
    """A message larger than the kernel's buffer arrives whole, and the end of the stream is None."""
    reader, writer = os.pipe()
    large = {"source": "x" * 300_000}

    def send() -> None:
        Channel(writer).send(large)
        os.close(writer)

    sender = threading.Thread(target=send)
    sender.start()
    channel = Channel(reader)
    assert channel.receive() == large
    assert channel.receive() is None
    sender.join()
    channel.close()
