# SPDX-License-Identifier: GPL-2.0-only
"""Set up the loopback and the limits for maps and sockets, in every guest."""

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
