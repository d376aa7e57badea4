# SPDX-License-Identifier: GPL-2.0-only
"""Which sockets this guest can make, whatever the configuration of its kernel says, and which modules were refused.

If the configuration is not available, it also finds out which other features the kernel has.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bpf.guest import assemble, syscall
from bpf.guest.contexts import CONTEXTS
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
        probe, absent = (_PROBES[symbol], _ABSENT) if symbol in _PROBES else (_FEATURES[symbol], _UNKNOWN)
        try:
            probe()
        except OSError as error:
            number = error.errno or 0
            if number in absent:
                found[symbol] = errno.errorcode[number]
    of_sockets = found.keys() & _PROBES.keys()
    return {"lacking": found, "refused": _refused() if of_sockets and arguments["modules"] else {}}


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


def _loaded(name: str) -> Callable[[], None]:
    def load() -> None:
        context = CONTEXTS[name]
        code = assemble.put(assemble.R0, context.answer) + assemble.EXIT
        os.close(assemble.load_program(context, code))

    return load


def _there(path: str) -> Callable[[], None]:
    def look() -> None:
        os.stat(path)

    return look


def _parser() -> None:
    """Attach a parser to a map: EOPNOTSUPP without the symbol, and before 5.13 there is not even the map."""
    program = assemble.load_program(CONTEXTS["sk_skb"], assemble.put(assemble.R0, 0) + assemble.EXIT)
    try:
        sockets = syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 1)
        try:
            syscall.attach(sockets, program, "sk_skb_stream_parser")
        finally:
            os.close(sockets)
    finally:
        os.close(program)


def _out_of_band() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.send(b"!", socket.MSG_OOB)


_FEATURES: dict[str, Callable[[], None]] = {
    "AF_UNIX_OOB": _out_of_band,
    "BPF_STREAM_PARSER": _parser,
    # Of the programs of cgroups, those of devices are known only to a kernel with the symbol.
    "CGROUP_BPF": _loaded("cgroup_device"),
    "BPF_EVENTS": _loaded("kprobe"),
    "NETFILTER_BPF_LINK": _loaded("netfilter"),
    "DEBUG_INFO_BTF": _there("/sys/kernel/btf/vmlinux"),
    "SECURITY_YAMA": _there("/proc/sys/kernel/yama/ptrace_scope"),
    "USER_NS": _there("/proc/self/ns/user"),
    "NET_NS": _there("/proc/self/ns/net"),
}
FEATURES = tuple(_FEATURES)
"""Asked only if the configuration is unknown: a faulty kernel may refuse, too."""

_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)
"""The errnos for a program type, an attach type or a file that this kernel does not have."""
_ABSENT = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOENT)
"""The errnos for a socket that this kernel cannot make. Any other errno is for the cases to judge."""


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
