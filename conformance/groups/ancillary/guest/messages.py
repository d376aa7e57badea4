# SPDX-License-Identifier: GPL-2.0-only
"""Datagrams, and the control messages that recvmsg(2) returns: timestamps, addresses, credentials, descriptors."""

from __future__ import annotations

import array
import os
import socket
import struct
from functools import cache
from typing import Final

from conformance.groups.ancillary.guest.setup import GRACE, PATIENCE, AncillarySetup
from conformance.guestlib import sockets, traffic
from conformance.guestlib.answers import outcome, wait_until

_SO_TIMESTAMP, _SO_TIMESTAMPNS = 29, 35
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_ROOM: Final = 256
_SHORT: Final = 100
"""Bytes of a buffer that is too small for a datagram."""
_LARGE: Final = 40_000
"""Bytes of a datagram that takes more than 32 KiB."""
_MERGED: Final = 0.25
"""Seconds to wait for the second of two datagrams that a defect merges."""
_PIECE: Final = 700
"""Bytes of a message that fills a buffer."""


def datagram(setup: AncillarySetup) -> None:
    """Receive datagrams; ask for the source, for boundaries, for a truncated datagram and for a large one."""
    steps = setup.steps
    first, second = traffic.payload(), traffic.payload()
    setup.sender.send(first)
    setup.settle()
    steps["from"] = outcome(lambda: _source(setup))
    setup.rest()
    _send_both(setup, first, second)
    steps["one"] = outcome(lambda: _which(setup.received().data, first, second))
    setup.rest()
    _send_both(setup, first, second)
    steps["short"] = outcome(lambda: _truncated(setup, first))
    steps["next"] = outcome(lambda: _which(setup.received(patience=GRACE).data, first, second))
    setup.rest()
    large = b"".join(struct.pack("=I", number) for number in range(_LARGE // 4))
    setup.sender.send(large)
    setup.settle()
    steps["large"] = outcome(lambda: "whole" if setup.received().data == large else "not whole")


def _send_both(setup: AncillarySetup, first: bytes, second: bytes) -> None:
    """Send two datagrams. Where recv(2) merges datagrams, wait until both are there: the worker may move one late."""
    for data in (first, second):
        setup.sender.send(data)
    setup.settle()
    if setup.mapped and setup.mode in ("pass", "local"):
        peek = socket.MSG_PEEK | socket.MSG_DONTWAIT
        wait_until(lambda: outcome(setup.reader.recv, traffic.ROOM, peek) == first + second, _MERGED)


def _source(setup: AncillarySetup) -> str:
    address = setup.received().address
    return "the sender" if address == setup.source.getsockname() else "no address" if not address else "another"


def _which(data: bytes, first: bytes, second: bytes) -> str:
    names = {first: "the first", second: "the second", first + second: "both", first[_SHORT:]: "the rest of the first"}
    return names.get(data) or ("the beginning" if first.startswith(data) else f"{len(data)} bytes of several")


def _truncated(setup: AncillarySetup, first: bytes) -> str:
    data, _, flags, _ = setup.received(_SHORT)
    if data != first[:_SHORT]:
        return f"{len(data)} other bytes"
    return "MSG_TRUNC" if flags & socket.MSG_TRUNC else "no flag"


@cache
def _stamp() -> tuple[socket.socket, socket.socket]:
    """Keep one socket with SO_TIMESTAMP open: the kernel starts to take timestamps only after the first such socket."""
    sender, reader = sockets.pair("tcp4")
    reader.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMP, 1)

    def stamped() -> bool:
        sender.send(b"!")
        return bool(reader.recvmsg(1, _ROOM)[1])

    wait_until(stamped, PATIENCE)
    return sender, reader


def options(setup: AncillarySetup) -> None:
    """Set each option for a control message, and receive it: two kinds of timestamps, and for UDP the address."""
    _stamp()
    steps, reader = setup.steps, setup.reader
    for name, option in (("timestamp", _SO_TIMESTAMP), ("timestampns", _SO_TIMESTAMPNS)):
        reader.setsockopt(socket.SOL_SOCKET, option, 1)
        steps[name] = _message(setup, socket.SOL_SOCKET, option)
        reader.setsockopt(socket.SOL_SOCKET, option, 0)
    if setup.kind == "udp4":
        reader.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        steps["pktinfo"] = _message(setup, socket.IPPROTO_IP, _IP_PKTINFO)
    elif setup.kind == "udp6":
        reader.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        steps["pktinfo"] = _message(setup, socket.IPPROTO_IPV6, _IPV6_PKTINFO)


def _message(setup: AncillarySetup, level: int, kind: int) -> str:
    """Send, and say whether recvmsg(2) returns such a control message."""
    setup.sender.send(traffic.payload())
    setup.settle()
    return outcome(lambda: "yes" if (level, kind) in setup.received(room=_ROOM).messages else "no")


def credentials(setup: AncillarySetup) -> None:
    """Receive the credentials of the process that sends."""
    setup.reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    setup.sender.send(traffic.payload())
    setup.settle()

    def whose() -> str:
        found = setup.received(room=_ROOM).messages.get((socket.SOL_SOCKET, socket.SCM_CREDENTIALS))
        if found is None:
            return "none"
        pid, user, group = struct.unpack("=iII", found)
        return "the sender" if (pid, user, group) == (os.getpid(), os.getuid(), os.getgid()) else "another process"

    setup.steps["credentials"] = outcome(whose)


def rights(setup: AncillarySetup) -> None:
    """Receive the writing end of a pipe by SCM_RIGHTS. After all copies are closed, the reader of the pipe gets EOF."""
    steps, data = setup.steps, traffic.payload()
    outlet = _send_pipe(setup, data)
    setup.settle()
    got = array.array("i")

    def receive() -> str:
        found, messages, _, _ = setup.received(room=_ROOM)
        got.frombytes(messages.get((socket.SOL_SOCKET, socket.SCM_RIGHTS), b""))
        return "all" if found == data else f"{len(found)} bytes"

    steps["data"] = outcome(receive)
    steps["rights"] = str(len(got))
    for each in got:
        os.close(each)
    steps["returned"] = _ended(outlet)


def rights_wait(setup: AncillarySetup) -> None:
    """Keep descriptors in the backlog of a full target while the kernel's garbage collector for UNIX sockets runs."""
    steps, filled = setup.steps, bytearray()
    for number in range(1 << 12):
        piece = struct.pack("=I", number) * (_PIECE // 4)
        if traffic.send(setup.target, piece) != "ok":
            break
        filled += piece
    outlet = _send_pipe(setup, data := traffic.payload(), collectable=True)
    setup.settle()
    # close(2) of a UNIX socket starts the collector if any UNIX socket is in flight.
    for each in socket.socketpair():
        each.close()
    setup.settle()
    if setup.ends == "closed":
        setup.target.close()
    else:
        wanted, found = bytes(filled) + data, bytearray()

        def whole() -> bool:
            found.extend(setup.rest())
            return len(found) >= len(wanted)

        wait_until(whole, PATIENCE)
        steps["data"] = "all" if found == wanted else f"{len(found)} of {len(wanted)} bytes"
    steps["returned"] = _ended(outlet)


def _send_pipe(setup: AncillarySetup, data: bytes, *, collectable: bool = False) -> int:
    """Send the writing end of a pipe, and close it here; return its reading end.

    If `collectable`, send with it a UNIX socket to which no other descriptor refers.
    """
    outlet, inlet = os.pipe()
    setup.fixture.keep(outlet)
    os.set_blocking(outlet, False)
    sent = [inlet]
    if collectable:
        ours, theirs = socket.socketpair()
        setup.fixture.own(ours)
        sent.append(theirs.detach())
    socket.send_fds(setup.sender, [data], sent)
    for each in sent:
        os.close(each)
    return outlet


def _ended(outlet: int) -> str:
    """Say whether every copy of the writing end of a pipe is closed."""

    def at_end() -> bool:
        try:
            return not os.read(outlet, 1)
        except BlockingIOError:
            return False

    return "yes" if wait_until(at_end, GRACE) or wait_until(at_end, PATIENCE) else "no"
