# SPDX-License-Identifier: GPL-2.0-only
"""Which sockets this guest can make, whatever the configuration of its kernel says, and which modules were refused."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from conformance.guestlib import procfs, states

_MODULES = Path("/modules")
"""Where the guest's init finds them: vm.guest.init."""
_SYS_FINIT_MODULE = 313
_TCP_ULP = 31


def lacking(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return, of the CONFIG symbols in `symbols`, those whose sockets cannot be made, each with the errno's name.

    With any there is also `refused`, where the guest has `modules` of its own: each that is not loaded, and why.
    """
    found = {}
    for symbol in arguments["symbols"]:
        try:
            _PROBES[symbol]()
        except OSError as error:
            if error.errno in _ABSENT:
                found[symbol] = errno.errorcode[error.errno]
    return {"lacking": found, "refused": _refused() if found and arguments["modules"] else {}}


def _made(kind: str, state: str = "fresh") -> Callable[[], None]:
    def make() -> None:
        with ExitStack() as keep:
            states.make(kind, state, keep)

    return make


def _tls() -> None:
    with socket.socket() as made:
        try:
            made.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # found, but not for a socket that is not connected
                raise


_PROBES: dict[str, Callable[[], None]] = {
    "INET": _made("tcp4"),
    # An address: with ipv6.disable_ipv6=1 there are sockets, and none has an address.
    "IPV6": _made("tcp6", "bound"),
    "UNIX": _made("unix_stream"),
    "VSOCKETS": _made("vsock_stream"),
    "VSOCKETS_LOOPBACK": _made("vsock_stream", "bound"),
    "PACKET": _made("packet_raw"),
    "MPTCP": _made("mptcp4"),
    "IP_SCTP": _made("sctp4"),
    "AF_KCM": _made("kcm"),
    "SMC": _made("smc"),
    "TIPC": _made("tipc_stream"),
    "XDP_SOCKETS": _made("xdp"),
    "TLS": _tls,
}
SYMBOLS = tuple(_PROBES)

_ABSENT = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOENT)
"""What the kernel says of what it has not; anything else is a matter of the cases."""


def _refused() -> dict[str, str]:
    """Load the modules again: of one that is there the kernel says so, of another why it is not."""
    order = _MODULES / "order"
    found = {}
    for name in order.read_text().split() if order.exists() else []:
        descriptor = os.open(_MODULES / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if procfs.LIBC.syscall(_SYS_FINIT_MODULE, descriptor, b"", 0) and ctypes.get_errno() != errno.EEXIST:
                found[name.removesuffix(".ko").replace("-", "_")] = os.strerror(ctypes.get_errno())
        finally:
            os.close(descriptor)
    return found
