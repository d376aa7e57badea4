# SPDX-License-Identifier: GPL-2.0-only
"""A socket of a kind in a state, and whatever keeps it there.

No state waits for a timer, and none is in motion: where the other side would move the socket on, a filter on one of the
two drops what arrives, and so holds TCP in every state of its diagram that a descriptor can have.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from conformance.guestlib import procfs, sockets
from conformance.guestlib.answers import wait_until

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
MSG_FASTOPEN = 0x20000000
FASTOPEN = "/proc/sys/net/ipv4/tcp_fastopen"
_WITHOUT_COOKIES = 0x207
"""Client, server, and neither asks the other for a cookie."""
_SECONDS = 2.0

_ARRIVING = {
    "shut_wr": "FIN_WAIT2",
    "shut_both": "FIN_WAIT2",
    "peer_shut_wr": "CLOSE_WAIT",
    "peer_closed": "CLOSE_WAIT",
    "reset": "CLOSE",
    "closing": "CLOSING",
    "time_wait": "CLOSE",
    "closed_second": "CLOSE",
}
"""The states of TCP that take a packet from the other side to arrive in, which a softirq may have yet to deliver."""

_DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)  # BPF_RET | BPF_K, 0 bytes
_DROP_PROGRAM = struct.pack("=H6xQ", 1, ctypes.addressof(_DROP_ALL))

State = Callable[[str, ExitStack], socket.socket]


_V4, _V6 = ("127.0.0.1", 0), ("::1", 0)
_SCTP, _UDPLITE, _MPTCP = 132, 136, 262
_STREAM, _DGRAM, _SEQPACKET, _RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW
_KCM, _SMC, _XDP = 41, 43, 44

_SORTS: dict[str, tuple[int, int, int, Any]] = {
    **{kind: (family, type_, 0, address) for kind, (family, type_, address) in sockets.SORTS.items()},
    "unix_seqpacket": (socket.AF_UNIX, _SEQPACKET, 0, ""),
    "vsock_dgram": (socket.AF_VSOCK, _DGRAM, 0, None),
    "mptcp4": (socket.AF_INET, _STREAM, _MPTCP, _V4),
    "mptcp6": (socket.AF_INET6, _STREAM, _MPTCP, _V6),
    "sctp4": (socket.AF_INET, _STREAM, _SCTP, _V4),
    "sctp6": (socket.AF_INET6, _STREAM, _SCTP, _V6),
    "sctp_seqpacket": (socket.AF_INET, _SEQPACKET, _SCTP, _V4),
    "raw4": (socket.AF_INET, _RAW, socket.IPPROTO_ICMP, _V4),
    "raw6": (socket.AF_INET6, _RAW, socket.IPPROTO_ICMPV6, _V6),
    "ping4": (socket.AF_INET, _DGRAM, socket.IPPROTO_ICMP, _V4),
    "ping6": (socket.AF_INET6, _DGRAM, socket.IPPROTO_ICMPV6, _V6),
    "udplite4": (socket.AF_INET, _DGRAM, _UDPLITE, _V4),
    "udplite6": (socket.AF_INET6, _DGRAM, _UDPLITE, _V6),
    "packet_raw": (socket.AF_PACKET, _RAW, 0, ("lo", 0)),
    "packet_dgram": (socket.AF_PACKET, _DGRAM, 0, ("lo", 0)),
    "netlink": (socket.AF_NETLINK, _RAW, 0, (0, 0)),
    "kcm": (_KCM, _SEQPACKET, 0, None),
    "smc": (_SMC, _STREAM, 0, _V4),
    "tipc_stream": (socket.AF_TIPC, _STREAM, 0, None),
    "tipc_rdm": (socket.AF_TIPC, socket.SOCK_RDM, 0, None),
    "xdp": (_XDP, _RAW, 0, None),
}
"""Family, type, protocol and an address to bind to, of the kinds that are in `sockets` and others."""
_OPTIONAL = ("mptcp", "sctp", "kcm", "smc", "tipc", "xdp")
"""What a kernel may well have been built without, or have in a module that is not loaded."""
_PING_GROUPS = "/proc/sys/net/ipv4/ping_group_range"


class UnavailableError(OSError):
    """This kernel has, here and now, no such socket at all."""


def make(kind: str, state: str, keep: ExitStack) -> socket.socket:
    """Return a socket in that state; `keep` closes it and what it needs. OSError where the kernel cannot."""
    if state in _OF_PAIR:
        end, peer = _pair(kind, keep)
        for step in _OF_PAIR[state]:
            _STEPS[step](end, peer)
    else:
        end = _STATES[state](kind, keep)
    if sockets.is_tcp(kind) and state in _ARRIVING:
        _wait_for(lambda: tcp_state(end) == _ARRIVING[state])
    return end


def _fresh(kind: str, keep: ExitStack) -> socket.socket:
    family, type_, protocol, _ = _SORTS[kind]
    if kind.startswith("ping"):
        procfs.write(_PING_GROUPS, "0 0")
    try:
        end = keep.enter_context(socket.socket(family, type_, protocol))
    except OSError as error:
        if kind.startswith(_OPTIONAL):
            raise UnavailableError(error.errno, error.strerror) from None
        raise
    if family == _SMC:
        # Its addresses are those of IPv4, and Python knows none of a family it does not know.
        return keep.enter_context(socket.socket(socket.AF_INET, type_, protocol, fileno=end.detach()))
    return end


def _bound(kind: str, keep: ExitStack) -> socket.socket:
    end = _fresh(kind, keep)
    # In each family this has the kernel choose.
    end.bind(_SORTS[kind][3])
    return end


def _listening(kind: str, keep: ExitStack) -> socket.socket:
    end = _bound(kind, keep)
    end.listen(8)
    end.settimeout(_SECONDS)
    return end


def _unlistened(kind: str, keep: ExitStack) -> socket.socket:
    end = _listening(kind, keep)
    end.shutdown(socket.SHUT_RDWR)
    return end


def _pair(kind: str, keep: ExitStack) -> tuple[socket.socket, socket.socket]:
    if kind in sockets.KINDS:
        ends = sockets.pair(kind)
        for end in ends:
            keep.enter_context(end)
        return ends
    return _over_listener(kind, kind, keep)


def _over_listener(kind: str, of_client: str, keep: ExitStack) -> tuple[socket.socket, socket.socket]:
    listener = _listening(kind, keep)
    end = _fresh(of_client, keep)
    end.connect(listener.getsockname())
    return end, keep.enter_context(listener.accept()[0])


def _fallback(kind: str, keep: ExitStack) -> socket.socket:
    """Accept plain TCP on a listener of MPTCP or SMC."""
    return _over_listener(kind, "tcp6" if kind == "mptcp6" else "tcp4", keep)[1]


def _accepted(kind: str, keep: ExitStack) -> socket.socket:
    return (_over_listener(kind, kind, keep) if kind == "unix_stream" else _pair(kind, keep))[1]


def _connected(kind: str, keep: ExitStack) -> socket.socket:
    """Connect one way only, or to a listener that does not accept."""
    peer = _bound(kind, keep) if _SORTS[kind][1] in (_DGRAM, _RAW) else _listening(kind, keep)
    end = _fresh(kind, keep)
    end.connect(peer.getsockname())
    return end


def _shut_wr(kind: str, keep: ExitStack, how: int = socket.SHUT_WR) -> socket.socket:
    end, peer = _pair(kind, keep)
    end.shutdown(how)
    if sockets.is_tcp(kind):
        # Or else the peer acknowledges when it sees fit, and until then the state is another.
        peer.recv(1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    elif sockets.is_vsock(kind):
        # What the peer answers passes the loopback before another connection does.
        _await_end(peer)
        _pair("vsock_stream", keep)
    return end


def _shut_both(kind: str, keep: ExitStack) -> socket.socket:
    return _shut_wr(kind, keep, socket.SHUT_RDWR)


def _refused(kind: str, keep: ExitStack) -> socket.socket:
    """Connect where nobody listens; over UDP, that is said when the first datagram is sent."""
    end = _fresh(kind, keep)
    nobody = _bound(kind, keep)
    address = nobody.getsockname()
    if kind in ("udp4", "udp6"):
        nobody.close()
    with suppress(ConnectionError):
        end.connect(address)
        if kind in ("udp4", "udp6"):
            end.send(b"refused")
            _await(end, select.POLLERR)
    return end


def _disconnected(kind: str, keep: ExitStack) -> socket.socket:
    end = _connected(kind, keep) if kind == "unix_dgram" else _pair(kind, keep)[0]
    sockets.disconnect(end)
    return end


def _bound_disconnected(kind: str, keep: ExitStack) -> socket.socket:
    """Disconnect a socket that asked for its port by number, and hence keeps it."""
    with _bound(kind, keep) as owner:
        address = owner.getsockname()
    end = _fresh(kind, keep)
    end.bind(address)
    end.connect(_bound(kind, keep).getsockname())
    sockets.disconnect(end)
    return end


def _to_itself(kind: str, keep: ExitStack) -> socket.socket:
    """Connect a socket to its own address: of TCP that is a simultaneous open (RFC 9293, 3.5) with one socket."""
    end = _bound(kind, keep)
    end.connect(end.getsockname())
    return end


def _syn_sent(kind: str, keep: ExitStack) -> socket.socket:
    listener = _listening(kind, keep)
    end = _fresh(kind, keep)
    _drop_arrivals(end)
    end.setblocking(False)
    with suppress(BlockingIOError):
        end.connect(listener.getsockname())
    return end


def _syn_recv(kind: str, keep: ExitStack) -> socket.socket:
    """Accept by TCP Fast Open: a child can be accepted before its handshake is over."""
    if int(procfs.read(FASTOPEN)) & _WITHOUT_COOKIES != _WITHOUT_COOKIES:
        procfs.write(FASTOPEN, str(_WITHOUT_COOKIES))
    listener = _listening(kind, keep)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 8)
    client = _fresh(kind, keep)
    _drop_arrivals(client)
    client.setblocking(False)
    with suppress(BlockingIOError):
        client.sendto(b"early", MSG_FASTOPEN, listener.getsockname())
    return keep.enter_context(listener.accept()[0])


def _closing(kind: str, keep: ExitStack) -> socket.socket:
    """Close on both sides before either has heard of the other's."""
    end, peer = _pair(kind, keep)
    _drop_arrivals(peer)
    end.shutdown(socket.SHUT_WR)
    _wait_for(lambda: sockets.memory_of(peer)[-1] > 0)
    peer.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    peer.shutdown(socket.SHUT_WR)
    _drop_arrivals(peer)
    return end


def _drop_arrivals(end: socket.socket) -> None:
    """Drop whatever arrives from now on."""
    end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_PROGRAM)


_wait_for = partial(wait_until, seconds=_SECONDS, meanwhile=os.sched_yield)
"""Wait for a change that the kernel is about to make. The caller's next question shows whether it was made."""


def _await(end: socket.socket, event: int) -> None:
    poll = select.poll()
    poll.register(end, event)
    if not poll.poll(_SECONDS * 1000):
        raise TimeoutError


def _await_end(end: socket.socket) -> None:
    """Wait for the end of what the peer sends, which not every family tells at once."""
    if end.type != socket.SOCK_DGRAM:
        end.settimeout(_SECONDS)
        with suppress(ConnectionError):
            end.recv(1)


_STEPS: dict[str, Callable[[socket.socket, socket.socket], object]] = {
    "shut_rd": lambda end, peer: end.shutdown(socket.SHUT_RD),
    "shut_wr": lambda end, peer: end.shutdown(socket.SHUT_WR),
    "peer sends": lambda end, peer: peer.send(b"unread"),
    "peer shuts_wr": lambda end, peer: peer.shutdown(socket.SHUT_WR),
    "peer closes": lambda end, peer: peer.close(),
    "peer resets": lambda end, peer: sockets.abort(peer),
    "peer is deaf": lambda end, peer: _drop_arrivals(peer),
    "data is there": lambda end, peer: _await(end, select.POLLIN),
    "end is there": lambda end, peer: _await_end(end),
    "reset is there": lambda end, peer: _await(end, select.POLLHUP),
}
_OF_PAIR: dict[str, tuple[str, ...]] = {
    "established": (),
    "unread": ("peer sends", "data is there"),
    "shut_rd": ("shut_rd",),
    "peer_shut_wr": ("peer shuts_wr", "end is there"),
    "peer_closed": ("peer closes", "end is there"),
    "reset": ("peer resets", "reset is there"),
    "fin_wait1": ("peer is deaf", "shut_wr"),
    "last_ack": ("peer shuts_wr", "peer is deaf", "shut_wr"),
    # What waits then is not a socket any more, and the descriptor's is closed.
    "time_wait": ("shut_wr", "peer shuts_wr"),
    "closed_second": ("peer shuts_wr", "shut_wr"),
}
"""The states that some of `_STEPS` bring a connected socket to."""
_STATES: dict[str, State] = {
    state.__name__.removeprefix("_"): state
    for state in (
        _fresh, _bound, _listening, _accepted, _connected, _shut_wr, _shut_both, _refused, _disconnected,
        _bound_disconnected, _syn_sent, _syn_recv, _closing, _fallback, _to_itself, _unlistened,
    )
}  # fmt: skip

TCP_STATES = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
    "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip


def tcp_state(end: socket.socket) -> str:
    """Return the state of a TCP socket as the kernel names it without its prefix."""
    return str(TCP_STATES[end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]])
