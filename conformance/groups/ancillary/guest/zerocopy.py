# SPDX-License-Identifier: GPL-2.0-only
"""MSG_ZEROCOPY, which the error queue reports, and TCP_ZEROCOPY_RECEIVE, which maps the receive queue of a socket."""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
from typing import Final

from conformance.groups.ancillary.guest.setup import PATIENCE, AncillarySetup
from conformance.guestlib import procfs
from conformance.guestlib.answers import outcome, wait_until

_SO_ZEROCOPY, _MSG_ZEROCOPY = 60, 0x4000000
_ORIGIN: Final = 5
"""SO_EE_ORIGIN_ZEROCOPY."""
_ORIGIN_AT: Final = 4
"""Offset of ee_origin in `struct sock_extended_err`."""
_TCP_ZEROCOPY_RECEIVE: Final = 35
_ADDRESS = struct.Struct("=QII")
"""The part of `struct tcp_zerocopy_receive` that every kernel has: address, length, recv_skip_hint."""
_PAGES: Final = 8
_SIZE: Final = _PAGES * mmap.PAGESIZE
_FAILED: Final = (1 << 64) - 1


def data() -> bytes:
    """Return pages filled with consecutive numbers, so that lost or moved bytes show."""
    return b"".join(struct.pack("=I", number) for number in range(_SIZE // 4))


def send(setup: AncillarySetup) -> None:
    """Send with MSG_ZEROCOPY: every byte arrives, and a notification says that the sender may reuse its buffer."""
    steps, wanted = setup.steps, data()
    steps["option"] = outcome(lambda: _set(setup.sender))
    steps["send"] = outcome(lambda: "all" if setup.sender.send(wanted, _MSG_ZEROCOPY) == _SIZE else "some")
    found = bytearray()

    def whole() -> bool:
        found.extend(setup.rest())
        return len(found) >= _SIZE

    wait_until(whole, PATIENCE)
    steps["received"] = "all" if found == wanted else f"{len(found)} bytes"
    # The receiver has acknowledged what it read, so the sender frees the skb.
    setup.settle()
    steps["notified"] = outcome(lambda: _notification(setup.sender))


def _set(end: socket.socket) -> str:
    end.setsockopt(socket.SOL_SOCKET, _SO_ZEROCOPY, 1)
    return "ok"


def _notification(end: socket.socket) -> str:
    messages: list[tuple[int, int, bytes]] = []

    def there() -> bool:
        try:
            messages.extend(end.recvmsg(1, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[1])
        except BlockingIOError:
            return False
        return True

    if not wait_until(there, 0.1):
        return "no"
    return "yes" if any(value[_ORIGIN_AT] == _ORIGIN for _, _, value in messages) else "of another origin"


def receive(setup: AncillarySetup) -> None:
    """Map whole pages by TCP_ZEROCOPY_RECEIVE, and receive the rest by recv(2)."""
    steps, wanted = setup.steps, data()
    found = bytearray()
    address = _mapped(setup.reader)
    setup.sender.sendall(wanted)
    setup.settle()

    def whole() -> bool:
        found.extend(_zero_copied(setup, address))
        found.extend(setup.rest())
        return len(found) >= _SIZE

    wait_until(whole, PATIENCE)
    procfs.LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(_SIZE))
    steps["received"] = "all" if found == wanted else f"{len(found)} bytes"


def _mapped(end: socket.socket) -> int:
    """Map the socket's receive queue, as tcp_mmap.c of the kernel's own tests does."""
    map_ = procfs.LIBC.mmap
    map_.restype = ctypes.c_uint64
    arguments = (ctypes.c_void_p(0), ctypes.c_size_t(_SIZE), mmap.PROT_READ, mmap.MAP_SHARED, end.fileno())
    address = int(map_(*arguments, ctypes.c_long(0)))
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), "mmap of a socket")
    return address


def _zero_copied(setup: AncillarySetup, address: int) -> bytes:
    """Call getsockopt(TCP_ZEROCOPY_RECEIVE), and return the bytes that the kernel mapped."""
    asked = ctypes.create_string_buffer(_ADDRESS.pack(address, _SIZE, 0), _ADDRESS.size)
    length = ctypes.c_uint(_ADDRESS.size)
    if procfs.LIBC.getsockopt(
        setup.reader.fileno(), socket.IPPROTO_TCP, _TCP_ZEROCOPY_RECEIVE, asked, ctypes.byref(length)
    ):
        # The call may fail; then recv(2) must return every byte.
        return b""
    return ctypes.string_at(address, _ADDRESS.unpack(asked.raw)[1])
