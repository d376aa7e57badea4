# SPDX-License-Identifier: GPL-2.0-only
"""The guest's netlink reader compared with pyroute2, on the running kernel: they share no code."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from pyroute2 import NetlinkError
from pyroute2.netlink.diag import DiagSocket

from conformance.guestlib.sock_diag import Lister
from conformance.guestlib.sockets import pair

_SO_COOKIE = 57
_STATES = {1: "ESTABLISHED", 7: "CLOSE", 10: "LISTEN"}
"""The states that the sockets here can be in, from include/net/tcp_states.h."""
_ASKED = {
    "tcp4": (socket.AF_INET, socket.IPPROTO_TCP),
    "tcp6": (socket.AF_INET6, socket.IPPROTO_TCP),
    "udp4": (socket.AF_INET, socket.IPPROTO_UDP),
    "udp6": (socket.AF_INET6, socket.IPPROTO_UDP),
    "unix": (socket.AF_UNIX, None),
}


@pytest.fixture
def opened() -> Iterator[dict[bytes, str]]:
    """Open sockets of every kind, some listening; yields cookie and `"KIND STATE"` of those this kernel can list."""
    with ExitStack() as keep:
        names = {}
        for kind in ("tcp4", "tcp6", "udp4", "udp6", "unix_stream", "unix_dgram"):
            for end in pair(kind):
                keep.enter_context(end)
                names[end] = f"{kind.partition('_')[0]} ESTABLISHED"
        names[keep.enter_context(socket.create_server(("127.0.0.1", 0)))] = "tcp4 LISTEN"
        cookies = {end.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8): name for end, name in names.items()}
        # A module may be missing: then neither reader can know.
        known = {name.partition(" ")[0] for name in by_pyroute2().values()}
        found = {cookie: name for cookie, name in cookies.items() if name.partition(" ")[0] in known}
        if not found:
            pytest.skip("this kernel lists no sockets by sock_diag(7)")
        yield found


def by_pyroute2() -> dict[bytes, str]:
    """Return cookie to `"KIND STATE"` of every socket."""
    found = {}
    with DiagSocket() as netlink:
        netlink.bind()
        for kind, (family, protocol) in _ASKED.items():
            prefix = "udiag" if family == socket.AF_UNIX else "idiag"
            try:
                listed = list(netlink.get_sock_stats(family=family, **({"protocol": protocol} if protocol else {})))
            except NetlinkError:
                continue
            for each in listed:
                state = each[f"{prefix}_state"]
                found[struct.pack("=Q", each[f"{prefix}_cookie"])] = f"{kind} {_STATES.get(state, state)}"
    return found


def test_two_readers_list_the_same_sockets(opened: dict[bytes, str]) -> None:
    """Every socket that is open, under its cookie, with its family and state."""
    with closing(Lister()) as lister:
        listed = lister.sockets()
    others = by_pyroute2()

    assert {cookie: listed.get(cookie) for cookie in opened} == opened
    assert {cookie: others.get(cookie) for cookie in opened} == opened


def test_a_socket_that_is_closed_is_listed_by_neither() -> None:
    """A socket that the count reports as left is no longer reported once it is gone."""
    with closing(Lister()) as lister, closing(socket.create_server(("127.0.0.1", 0))) as one:
        cookie = one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
        if cookie not in by_pyroute2():
            pytest.skip("this kernel lists no TCP sockets by sock_diag(7)")
        assert cookie in lister.sockets()
        one.close()
        assert cookie not in lister.sockets()
        assert cookie not in by_pyroute2()
