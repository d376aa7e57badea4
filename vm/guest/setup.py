# SPDX-License-Identifier: GPL-2.0-only
"""Set up the loopback, the limits for maps and sockets, and random bytes, in every guest."""

from __future__ import annotations

import contextlib
import fcntl
import resource
import socket
import struct

FILES = 65536
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207
"""d848e5f8e1eb ("random: add new ioctl RNDRESEEDCRNG"), 4.17."""


def raise_loopback() -> None:
    """Bring `lo` up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = bytearray(struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))


def raise_limits() -> None:
    """Raise the limits of a case: before 5.11 BPF maps are charged to RLIMIT_MEMLOCK."""
    unlimited = resource.RLIM_INFINITY
    for limit, value in ((resource.RLIMIT_MEMLOCK, unlimited), (resource.RLIMIT_NOFILE, FILES)):
        with contextlib.suppress(ValueError, PermissionError):  # without CAP_SYS_RESOURCE the hard limit stays
            resource.setrlimit(limit, (value, value))


def reseed(seed: bytes) -> None:
    """Have the kernel derive later random bytes from `seed`, too: random(4). One that refuses keeps its own."""
    with contextlib.suppress(OSError), open("/dev/urandom", "wb") as device:
        fcntl.ioctl(device, RNDADDENTROPY, struct.pack("ii", 8 * len(seed), len(seed)) + seed)
        fcntl.ioctl(device, RNDRESEEDCRNG)
