# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.guestlib import traffic

SIZES = (1, 1500, 2, 64, 1000, 1, 1400)
MESSAGES = [bytes((number,)) + random.Random(number).randbytes(size - 1) for number, size in enumerate(SIZES)]
ALL = b"".join(MESSAGES)
OFFSETS = [sum(SIZES[:number]) for number in range(len(SIZES))]
WHOLE = [[[offset, size]] for offset, size in zip(OFFSETS, SIZES, strict=True)]


def described(*received: bytes | str) -> list[traffic.Segments | str]:
    """Describe what one socket received of `MESSAGES`."""
    return traffic.Sent(MESSAGES).describe(received)


def test_messages_in_order_are_one_segment_each() -> None:
    """Messages that arrive unchanged are described by one segment each."""
    assert described(*MESSAGES) == WHOLE


def test_a_stream_is_one_segment_wherever_it_is_cut() -> None:
    """The boundaries of recv() do not matter in a stream."""
    assert described(ALL) == [[[0, len(ALL)]]]
    assert described(ALL[:7], ALL[7:1600], ALL[1600:]) == [[[0, 7]], [[7, 1593]], [[1600, len(ALL) - 1600]]]


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_a_duplicate_shows_as_the_same_segment_twice(number: int) -> None:
    """A byte received twice is distinguished from two bytes, as a message and within a stream."""
    assert described(*MESSAGES[: number + 1], MESSAGES[number])[-2:] == [WHOLE[number]] * 2
    doubled = described(b"".join([*MESSAGES[: number + 1], *MESSAGES[number:]]))[0]
    rest = [OFFSETS[number], len(ALL) - OFFSETS[number]]
    assert doubled == [[0, OFFSETS[number] + SIZES[number]], rest]


def test_reordered_messages_keep_their_offsets() -> None:
    """The list of segments shows the order."""
    order = [3, 0, 2, 1, 6, 5, 4]
    assert described(*[MESSAGES[number] for number in order]) == [WHOLE[number] for number in order]


def test_a_truncated_message_is_a_shorter_segment() -> None:
    """The missing end of a message is seen, and so is what follows."""
    assert described(MESSAGES[0], MESSAGES[1][:-1], MESSAGES[2]) == [WHOLE[0], [[1, 1499]], WHOLE[2]]


def test_a_hole_in_a_stream_splits_the_segment() -> None:
    """Bytes lost in the middle are seen."""
    assert described(ALL[:100] + ALL[200:]) == [[[0, 100], [200, len(ALL) - 200]]]


def test_bytes_nobody_sent_are_given_in_hex() -> None:
    """Stray bytes are shown as they are, wherever they stand."""
    assert described(b"\xf0\xf1\xf2" + MESSAGES[3] + b"\xf3") == [["f0f1f2", WHOLE[3][0], "f3"]]


def test_long_strays_are_cut_and_counted() -> None:
    """An observation stays small whatever the kernel delivers, and is computed fast."""
    stray = random.Random("stray").randbytes(16000)
    assert described(stray) == [[f"{stray[:64].hex()}...(16000 bytes)"]]


def test_an_empty_message_has_no_segments_and_signs_stay() -> None:
    """Datagrams without bytes, errors and the end keep their place in the order."""
    assert described(b"", MESSAGES[0], "!ECONNRESET", "eof") == [[], WHOLE[0], "!ECONNRESET", "eof"]


@given(st.lists(st.integers(0, len(SIZES) - 1), max_size=20), st.booleans())
def test_any_sequence_of_messages_is_recognised(order: list[int], stream: bool) -> None:
    """Losing, repeating and swapping in any combination is described without loss."""
    received = [MESSAGES[number] for number in order]
    found = b""
    for message in described(*([b"".join(received)] if stream else received)):
        for segment in message:
            assert isinstance(segment, list)
            found += ALL[segment[0] : sum(segment)]
    assert found == b"".join(received)


@pytest.fixture(name="pair")
def fixture_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected datagram sockets that queue more than ten messages: over UDP."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        first.bind(("127.0.0.1", 0))
        second.connect(first.getsockname())
        first.connect(second.getsockname())
        yield first, second


def test_an_empty_socket_yields_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """An empty socket yields nothing, without a wait."""
    assert traffic.drain(pair[0].fileno(), stream=False) == []


@pytest.mark.parametrize("count", [1, 23, 24, 25, 60])
def test_all_datagrams_come_with_their_boundaries(pair: tuple[socket.socket, socket.socket], count: int) -> None:
    """However many wait, also more than one system call takes, also empty ones."""
    sent = [bytes([number]) * (number * 7 % 50) for number in range(count)]
    for message in sent:
        pair[1].send(message)
    assert traffic.drain(pair[0].fileno(), stream=False) == sent


def test_a_message_longer_than_the_buffer_is_marked(pair: tuple[socket.socket, socket.socket]) -> None:
    """A message longer than the buffer is marked as truncated."""
    pair[1].send(bytes(20000))
    assert traffic.drain(pair[0].fileno(), stream=False) == [bytes(1 << 14), "!MSG_TRUNC"]


def test_an_error_is_named_and_does_not_stop_the_drain(pair: tuple[socket.socket, socket.socket]) -> None:
    """An error that waits on the socket comes first, then what is queued behind it."""
    pair[1].send(b"before")
    pair[1].close()
    pair[0].send(b"to nobody")
    assert traffic.drain(pair[0].fileno(), stream=False) == ["!ECONNREFUSED", b"before"]


def test_the_end_of_a_stream_is_seen_after_its_bytes() -> None:
    """A closed peer is distinguished from a silent one."""
    first, second = socket.socketpair()
    with first, second:
        second.send(b"last")
        second.close()
        assert traffic.drain(first.fileno(), stream=True) == [b"last", "eof"]


def test_a_reset_connection_is_an_error_of_receiving() -> None:
    """A TCP reset is seen as such."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        end, _ = server.accept()
    with end:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert traffic.drain(end.fileno(), stream=True)[:1] == ["!ECONNRESET"]
