# SPDX-License-Identifier: GPL-2.0-only
"""Flags of recv(2) and socket options that decide when poll(2) reports a socket, or what recv(2) returns."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Final

from conformance.groups.readiness.guest.questions import FIRST, PART, SECOND, Question, Reader, Watch
from conformance.groups.readiness.guest.setup import NOTHING, ROOM, Setup, ranges
from conformance.guestlib.answers import attempt, error_name, name_of, outcome

_TCP_INQ, _SO_PEEK_OFF, _SO_BUSY_POLL, _SO_TIMESTAMPING = 36, 42, 46, 37
_UDP_SEGMENT, _UDP_GRO, _IP_RECVERR = 103, 104, 11
_TX_SOFTWARE: Final = 1 << 1 | 1 << 4
"""SOF_TIMESTAMPING_TX_SOFTWARE and SOF_TIMESTAMPING_SOFTWARE."""
_F_SETOWN_EX = 15
_SEGMENT = 50
_BRIEFLY = 0.02
"""Seconds of SO_RCVTIMEO."""
_ANCILLARY = 512


def _peek(case: Setup) -> None:
    """MSG_PEEK returns the beginning, then everything, and removes nothing."""
    case.insert()
    case.send(FIRST)
    case.steps["peek"] = case.read(PART, socket.MSG_PEEK)
    case.steps["peek-again"] = case.read(ROOM, socket.MSG_PEEK)
    case.steps["count"] = case.counted()
    case.steps["read"] = case.read()
    case.steps["end"] = case.read()


def _waitall(case: Setup) -> None:
    """A thread in recv(2) with MSG_WAITALL stays blocked until the second message arrives."""
    case.insert()
    reader = Reader(case.end, FIRST + SECOND, socket.MSG_WAITALL)
    case.fixture.callback(reader.end)
    case.send(FIRST, waits=False)
    case.steps["reader"] = reader.wait()
    case.send(SECOND, waits=False)
    case.steps["reader-then"] = reader.wait()
    case.steps["rest"] = case.read()


def _trunc(case: Setup) -> None:
    """MSG_TRUNC returns the length of the datagram and marks a truncated one; on TCP it discards bytes."""
    case.insert()
    case.send(FIRST)
    case.steps["trunc"] = _short(case, socket.MSG_TRUNC)
    case.steps["rest"] = case.read()
    case.send(FIRST)
    case.steps["short"] = _short(case, 0)
    case.steps["rest-then"] = case.read()


def _short(case: Setup, flags: int) -> str:
    try:
        size, _, found, _ = case.end.recvmsg_into([bytearray(PART)], 0, flags | socket.MSG_DONTWAIT)
    except OSError as error:
        return name_of(error)
    return f"{size} with MSG_TRUNC" if found & socket.MSG_TRUNC else str(size)


def _eor(case: Setup) -> None:
    """recvmsg(2) returns MSG_EOR for a message that was sent with MSG_EOR."""
    case.insert()
    case.send(FIRST, socket.MSG_EOR)
    case.steps["eor"] = outcome(_with_flags, case)
    case.steps["end"] = case.read()


def _with_flags(case: Setup) -> str:
    data, _, flags, _ = case.end.recvmsg(ROOM, 0, socket.MSG_DONTWAIT)
    return f"{ranges(data)} with MSG_EOR" if flags & socket.MSG_EOR else ranges(data)


def _lowat(case: Setup) -> None:
    """SO_RCVLOWAT: a socket is readable only when that many bytes wait."""
    case.insert()
    case.option(socket.SOL_SOCKET, socket.SO_RCVLOWAT, FIRST + SECOND)
    watch = Watch(case)
    case.send(FIRST, waits=False)
    case.steps["ready"] = watch.look()
    case.send(SECOND)
    case.steps["ready-then"] = watch.look()
    case.steps["read"] = case.read()


def _rcvtimeo(case: Setup) -> None:
    """SO_RCVTIMEO: recv(2) without data returns EAGAIN after that time; recv(2) with data returns it at once."""
    case.insert()
    case.option(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, int(_BRIEFLY * 1e6)))
    begun = time.monotonic()
    case.steps["timeout"] = _blocking(case)
    case.steps["waited"] = "yes" if time.monotonic() - begun >= _BRIEFLY / 2 else "no"
    case.send(FIRST)
    case.steps["read"] = _blocking(case)


def _blocking(case: Setup) -> str:
    return ranges(outcome(case.end.recv, ROOM))


def _peek_off(case: Setup) -> None:
    """SO_PEEK_OFF: each MSG_PEEK starts where the last one ended, and a read moves the offset back."""
    case.insert()
    case.option(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
    case.send(FIRST)
    case.steps["peek"] = case.read(PART, socket.MSG_PEEK)
    case.steps["peek-again"] = case.read(PART, socket.MSG_PEEK)
    case.steps["read"] = case.read()
    case.send(SECOND)
    case.steps["peek-then"] = case.read(PART, socket.MSG_PEEK)
    case.steps["read-then"] = case.read()


def _inq(case: Setup) -> None:
    """TCP_INQ: each recvmsg(2) returns the number of bytes that still wait."""
    case.insert()
    case.option(socket.IPPROTO_TCP, _TCP_INQ, 1)
    case.send(FIRST)
    case.steps["inq"] = _with_inq(case, PART)
    case.steps["inq-then"] = _with_inq(case, ROOM)


def _with_inq(case: Setup, size: int) -> str:
    """Call recvmsg(2); return the bytes, and the number in the TCP_INQ message if there is one."""
    try:
        data, ancillary, _, _ = case.end.recvmsg(size, _ANCILLARY, socket.MSG_DONTWAIT)
    except OSError as error:
        return name_of(error)
    left = [str(struct.unpack("=i", value)[0]) for _, sort, value in ancillary if sort == _TCP_INQ]
    return " and ".join([ranges(data), *left])


def _busy_poll(case: Setup) -> None:
    """SO_BUSY_POLL: recv(2) polls the device first; the loopback device has no queue to poll."""
    case.insert()
    case.option(socket.SOL_SOCKET, _SO_BUSY_POLL, 50)
    watch = Watch(case)
    case.send(FIRST)
    case.steps["ready"] = watch.look()
    case.steps["read"] = case.read()
    case.steps["end"] = case.read()


def _errqueue(case: Setup) -> None:
    """MSG_ERRQUEUE: poll(2) reports the timestamp of a sent message, and recvmsg(2) returns it although data waits."""
    case.insert()
    case.option(socket.SOL_SOCKET, _SO_TIMESTAMPING, _TX_SOFTWARE)
    case.steps["send"] = attempt(case.end.send, bytes(FIRST), socket.MSG_DONTWAIT)
    case.settle()
    case.send(FIRST)
    case.steps["ready"] = Watch(case).look()
    case.steps["queued"] = _error(case)
    case.steps["queued-then"] = _error(case)
    case.steps["read"] = case.read()


def _recverr(case: Setup) -> None:
    """IP_RECVERR: the error queue has the ICMP error, and the next call fails with it."""
    case.insert()
    case.option(socket.IPPROTO_IP, _IP_RECVERR, 1)
    case.send(FIRST)
    case.peer.close()
    case.steps["send"] = attempt(case.end.send, bytes(FIRST), socket.MSG_DONTWAIT)
    case.settle()
    case.steps["ready"] = Watch(case).look()
    case.steps["queued"] = _error(case)
    case.steps["read"] = case.read()
    case.steps["read-then"] = case.read()


def _error(case: Setup) -> str:
    """Receive from the error queue; name each error and its origin."""
    try:
        _, ancillary, _, _ = case.end.recvmsg(ROOM, _ANCILLARY, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError as error:
        return name_of(error)
    # IP_RECVERR and IPV6_RECVERR messages have a struct sock_extended_err; the other messages are timestamps.
    errors = [struct.unpack_from("=IB", value) for _, sort, value in ancillary if sort in (_IP_RECVERR, 25)]
    return " ".join(f"{error_name(number)} of {origin}" for number, origin in errors) or NOTHING


def _splice(case: Setup) -> None:
    """splice(2) moves waiting data into a pipe."""
    case.insert()
    case.send(FIRST)
    reader, writer = os.pipe()
    case.fixture.keep(reader)
    case.fixture.keep(writer)
    # SPLICE_F_NONBLOCK concerns the pipe only, so the socket gets O_NONBLOCK.
    case.end.setblocking(False)
    moved = outcome(os.splice, case.end.fileno(), writer, ROOM)
    case.steps["splice"] = moved if isinstance(moved, str) else ranges(os.read(reader, ROOM)) if moved else NOTHING
    case.steps["rest"] = case.read()


def _sigio(case: Setup) -> None:
    """O_ASYNC: the kernel sends SIGIO to the owner of the socket for each message."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    number = case.end.fileno()
    fcntl.fcntl(number, _F_SETOWN_EX, struct.pack("=ii", 0, threading.get_native_id()))
    case.insert()
    fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_ASYNC)
    for suffix in ("", "-then"):
        _pending()
        case.send(FIRST)
        case.steps[f"signal{suffix}"] = _pending()
        case.steps[f"read{suffix}"] = case.read()
    fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) & ~os.O_ASYNC)
    _pending()


def _pending() -> str:
    """Take the pending SIGIO, if there is one."""
    return "SIGIO" if signal.sigtimedwait({signal.SIGIO}, 0) else NOTHING


def _gro(case: Setup) -> None:
    """UDP_GRO: one recv(2) returns all segments of one send(2)."""
    case.insert()
    case.option(socket.IPPROTO_UDP, _UDP_GRO, 1)
    _segments(case)


def _segment(case: Setup) -> None:
    """UDP_SEGMENT: each segment of one send(2) is a datagram."""
    case.insert()
    _segments(case)


def _segments(case: Setup) -> None:
    case.source.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT)
    case.send(FIRST)
    case.steps["read"] = case.read()
    case.steps["rest"] = case.read()


def _sigpipe(case: Setup) -> None:
    """send(2) to a socket that has shut down writing raises SIGPIPE, unless MSG_NOSIGNAL is given."""
    case.insert()
    case.end.shutdown(socket.SHUT_WR)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    for step, flags in (("send", 0), ("send-then", socket.MSG_NOSIGNAL)):
        answer = attempt(case.end.send, b"x", flags | socket.MSG_DONTWAIT)
        raised = signal.sigtimedwait({signal.SIGPIPE}, 0)
        case.steps[step] = f"{answer} and SIGPIPE" if raised else answer


def _more(case: Setup) -> None:
    """MSG_MORE: the data arrives together with that of the next send(2)."""
    case.insert()
    case.peer.setblocking(False)
    case.steps["send"] = attempt(case.end.send, bytes(FIRST), socket.MSG_MORE | socket.MSG_DONTWAIT)
    case.settle()
    case.steps["ready"] = "in" if select.select([case.peer], [], [], 0)[0] else NOTHING
    case.steps["send-then"] = attempt(case.end.send, bytes(SECOND), socket.MSG_DONTWAIT)
    case.settle()
    case.steps["size"] = str(len(case.peer.recv(ROOM)))


OPTIONS: Final[Mapping[str, Question]] = {
    "busy_poll": _busy_poll,
    "eor": _eor,
    "errqueue": _errqueue,
    "gro": _gro,
    "inq": _inq,
    "lowat": _lowat,
    "more": _more,
    "peek": _peek,
    "peek_off": _peek_off,
    "rcvtimeo": _rcvtimeo,
    "recverr": _recverr,
    "segment": _segment,
    "sigio": _sigio,
    "sigpipe": _sigpipe,
    "splice": _splice,
    "trunc": _trunc,
    "waitall": _waitall,
}
"""The question of each flag or option, by its name in `cases.OPTIONS`."""
