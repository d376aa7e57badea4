# SPDX-License-Identifier: GPL-2.0-only
"""The guest's few lines of netlink against pyroute2, on the running kernel: two readers that share no line."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import closing

import pytest
from pyroute2 import NetlinkError
from pyroute2.netlink.diag import DiagSocket

from conformance.scenarios.sock_diag import Lister
from conformance.scenarios.sockets import pair

_SO_COOKIE = 57
_STATES = {1: "established", 5: "fin-wait-2", 7: "closed", 8: "close-wait", 10: "listening"}
"""Of `enum` in include/net/tcp_states.h, those that the sockets here are in."""
_ASKED = {
    "tcp4": (socket.AF_INET, socket.IPPROTO_TCP),
    "tcp6": (socket.AF_INET6, socket.IPPROTO_TCP),
    "udp4": (socket.AF_INET, socket.IPPROTO_UDP),
    "udp6": (socket.AF_INET6, socket.IPPROTO_UDP),
    "unix": (socket.AF_UNIX, None),
}


@pytest.fixture
def opened() -> Iterator[dict[bytes, str]]:
    """Open sockets of every kind and some of their states; yields each one's cookie and `"KIND STATE"`."""
    with ExitStack() as keep:
        names = {}
        for kind in ("tcp4", "tcp6", "udp4", "udp6", "unix_stream", "unix_dgram"):
            for end in pair(kind):
                keep.enter_context(end)
                names[end] = f"{kind.removesuffix('_stream').removesuffix('_dgram')} established"
        listener = keep.enter_context(socket.create_server(("127.0.0.1", 0)))
        names[listener] = "tcp4 listening"
        client = keep.enter_context(socket.create_connection(listener.getsockname()))
        server = keep.enter_context(listener.accept()[0])
        server.shutdown(socket.SHUT_WR)
        client.recv(1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        names |= {client: "tcp4 close-wait", server: "tcp4 fin-wait-2"}
        yield {end.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8): name for end, name in names.items()}


def by_pyroute2() -> dict[bytes, str]:
    """Return cookie to `"KIND STATE"` of every socket."""
    found = {}
    with DiagSocket() as netlink:
        netlink.bind()
        for kind, (family, protocol) in _ASKED.items():
            arguments = {} if protocol is None else {"protocol": protocol}
            for each in netlink.get_sock_stats(family=family, **arguments):
                prefix = "udiag" if family == socket.AF_UNIX else "idiag"
                state = each[f"{prefix}_state"]
                found[struct.pack("=Q", each[f"{prefix}_cookie"])] = f"{kind} {_STATES.get(state, state)}"
    return found


def test_two_readers_list_the_same_sockets(opened: dict[bytes, str]) -> None:
    """Every socket that is open, under its cookie, with its family and state."""
    with closing(Lister()) as lister:
        listed = lister.sockets()
    try:
        others = by_pyroute2()
    except NetlinkError as error:
        pytest.skip(f"this kernel does not list sockets of every family: {error}")

    assert {cookie: listed.get(cookie) for cookie in opened} == opened
    assert {cookie: others.get(cookie) for cookie in opened} == opened


def test_a_socket_that_is_closed_is_listed_by_neither(opened: dict[bytes, str]) -> None:
    """What the ledger calls left must go when it goes."""
    with closing(Lister()) as lister, closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as one:
        one.bind("")
        cookie = one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
        assert cookie in lister.sockets()
        assert cookie in by_pyroute2()
        one.close()
        assert cookie not in lister.sockets()
        assert cookie not in by_pyroute2()
