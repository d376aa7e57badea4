# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from conformance.guestlib import sockets

LOCAL = [kind for kind in sockets.KINDS if not sockets.is_vsock(kind)]
LISTENING = ["tcp4", "tcp6"]


@pytest.fixture(autouse=True)
def no_listeners() -> Iterator[None]:
    """Leave no listener behind."""
    yield
    sockets.close_listeners()


@pytest.mark.parametrize("kind", LOCAL)
def test_the_ends_of_a_pair_are_connected_both_ways(kind: str) -> None:
    """Either end reaches the other, and no other socket."""
    first, second = sockets.pair(kind)
    with first, second:
        first.send(b"one")
        second.send(b"two")
        assert (first.recv(9), second.recv(9)) == (b"two", b"one")


@pytest.mark.parametrize("kind", LOCAL)
def test_every_pair_is_new(kind: str) -> None:
    """Two pairs share no socket and no data."""
    (first, second), (other, another) = sockets.pair(kind), sockets.pair(kind)
    with first, second, other, another:
        first.send(b"x")
        with pytest.raises(BlockingIOError):
            another.recv(1, socket.MSG_DONTWAIT)
        assert second.recv(1) == b"x"


@pytest.mark.parametrize("kind", LISTENING)
def test_tcp_sends_at_once(kind: str) -> None:
    """Nagle's algorithm would hold small messages back on either side."""
    first, second = sockets.pair(kind)
    with first, second:
        for end in (first, second):
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("kind", LISTENING)
def test_a_leftover_connection_is_not_accepted_as_ours(kind: str) -> None:
    """A case killed between connect() and accept() does not spoil the next one."""
    for end in sockets.pair(kind):
        end.close()
    with socket.socket(sockets.SORTS[kind][0], socket.SOCK_STREAM) as left:
        left.connect(sockets._listeners[kind][1])
        first, second = sockets.pair(kind)
        with first, second:
            first.send(b"x")
            assert second.recv(1) == b"x"


def test_a_kind_that_cannot_be_made_raises_its_errno_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel refuses is an OSError with its errno, and the next attempt starts anew."""
    family, type_, _ = sockets.SORTS["tcp4"]
    monkeypatch.setitem(sockets.SORTS, "tcp4", (family, type_, ("192.0.2.1", 0)))
    with pytest.raises(OSError) as caught:
        sockets.pair("tcp4")
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert sockets._listeners == {}


def test_an_unreachable_listener_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the connection is not in the listener's queue, waiting ends, and the listener is not used again."""
    monkeypatch.setattr(sockets, "_ACCEPT_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        listener, _ = sockets._listen("tcp4")
        sockets._listeners["tcp4"] = (listener, elsewhere.getsockname())
        with pytest.raises(TimeoutError):
            sockets.pair("tcp4")
    assert sockets._listeners == {}
