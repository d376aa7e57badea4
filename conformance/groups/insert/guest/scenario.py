# SPDX-License-Identifier: GPL-2.0-only
"""Insert one socket of a kind and in a state into a SOCKMAP or SOCKHASH, and look it up."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import tempfile
from collections.abc import Mapping

from bpf.guest import assemble as asm
from bpf.guest import hooks, links, maps, syscall
from bpf.guest.contexts import CONTEXTS
from conformance.guestlib import cgroups, sockets, states
from conformance.guestlib.answers import Steps, attempt, by_name, name_of
from conformance.guestlib.fixture import Fixture, Map, Orders, closed, scenario


@scenario
def run(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Carry out one case; `params`: `map`, `kind`, `state`.

    Steps: `available`, alone, where this kernel has no such socket here; `make`; `state`, of TCP as the kernel says;
    `insert`; if that went well `lookup`, `cookie` being the right one, and `delete`. An answer is `ok` or an errno.
    """
    table, kind = fixture.map(params["map"], 2), params["kind"]
    try:
        end = states.make(kind, params["state"], fixture)
    except OSError as error:
        steps["available" if isinstance(error, states.UnavailableError) else "make"] = name_of(error)
        return
    steps["make"] = "ok"
    if sockets.is_tcp(kind):
        steps["state"] = states.tcp_state(end)
    steps["insert"] = table.insert(end)
    if steps["insert"] == "ok":
        steps["lookup"] = table.whose(0, end)
        steps["delete"] = table.delete()


@scenario
def descriptor(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Insert a descriptor that is not a socket; `params`: `map`, `what`. Steps: `u32` and `u64`, the size of values."""
    value = _DESCRIPTORS[params["what"]](fixture)
    for name, size in (("u32", 4), ("u64", 8)):
        table = fixture.keep(syscall.create_map(syscall.MAP_TYPES[params["map"]], 4, size, 2))
        steps[name] = attempt(maps.update, table, bytes(4), struct.pack("=Q", value & (1 << 64) - 1)[:size])


def _path_socket(fixture: Fixture) -> int:
    """Open the path of a UNIX socket, which is not the socket."""
    folder = fixture.enter_context(tempfile.TemporaryDirectory())
    end = fixture.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    end.bind(f"{folder}/name")
    return fixture.keep(os.open(f"{folder}/name", os.O_PATH))


_DESCRIPTORS = {
    "pipe": Fixture.pipe,
    "file": lambda fixture: fixture.keep(os.memfd_create("file")),
    "path": lambda fixture: fixture.keep(os.open("/", os.O_PATH)),
    "map": lambda fixture: fixture.map("sockmap", 1),
    "closed": lambda fixture: closed(),
    "largest-int": lambda fixture: (1 << 31) - 1,
    "beyond-int": lambda fixture: 1 << 31,
    "minus-one": lambda fixture: -1,
    # The socket may be inserted, and the upper half of the value is not thrown away.
    "socket-and-high-bits": lambda fixture: states.make("udp4", "bound", fixture).fileno() | 1 << 32,
    "path-socket": _path_socket,
}


_TCP_ULP = 31
_SOL_TLS, _TLS_TX, _TLS_RX = 282, 1, 2
_KEYS = struct.pack("=HH", 0x0303, 51) + bytes(36)
"""TLS 1.2, AES-GCM-128, and the key and all else zeros."""
_SIOCKCMATTACH = 0x89E0

_ENDS = {"active": 4, "passive": 5}
"""The sock_ops callback that runs when this end of a connection becomes ESTABLISHED."""


@scenario
def layer(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Carry out one case; `params`: `map`, `kind`, `layer`, a name in `_LAYERS`, whose functions document the steps.

    The only step is `available` where this kernel has, here and now, no such layer.
    """
    try:
        steps |= _LAYERS[params["layer"]](fixture.map(params["map"], 2), params["kind"], fixture)
    except states.UnavailableError as error:
        steps["available"] = name_of(error)


def _tls_first(table: Map, kind: str, fixture: Fixture) -> Steps:
    """Insert a socket that has the TLS protocol, without keys and with."""
    _need_tls(kind, fixture)
    bare, ready = (states.make(kind, "established", fixture) for _ in range(2))
    for end in (bare, ready):
        end.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
    ready.setsockopt(_SOL_TLS, _TLS_TX, _KEYS)
    return {
        "bare": table.insert(bare),
        "with keys": table.insert(ready, 1),
    }


def _tls_second(table: Map, kind: str, fixture: Fixture) -> Steps:
    """Give the TLS protocol and keys to a socket that is in the map."""
    _need_tls(kind, fixture)
    end = states.make(kind, "established", fixture)
    return {
        "insert": table.insert(end),
        "protocol": attempt(end.setsockopt, socket.IPPROTO_TCP, _TCP_ULP, b"tls"),
        "send keys": attempt(end.setsockopt, _SOL_TLS, _TLS_TX, _KEYS),
        "receive keys": attempt(end.setsockopt, _SOL_TLS, _TLS_RX, _KEYS),
        "insert again": table.insert(end, 1),
        "lookup": table.whose(0, end),
        "delete": table.delete(),
    }


def _need_tls(kind: str, fixture: Fixture) -> None:
    end = states.make(kind, "established", fixture)
    try:
        end.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        end.setsockopt(_SOL_TLS, _TLS_TX, _KEYS)
    except OSError as error:
        raise states.UnavailableError(error.errno, error.strerror) from None


def _kcm_first(table: Map, kind: str, fixture: Fixture) -> Steps:
    """Insert a socket that a KCM socket receives from."""
    end = states.make(kind, "established", fixture)
    attach = _multiplex(end, fixture)
    return {"attach": attach, "insert": table.insert(end)}


def _kcm_second(table: Map, kind: str, fixture: Fixture) -> Steps:
    """Have a KCM socket receive from a socket that is in the map."""
    end = states.make(kind, "established", fixture)
    steps = {"insert": table.insert(end), "attach": _multiplex(end, fixture)}
    return steps | {"lookup": table.whose(0, end), "delete": table.delete()}


def _multiplex(end: socket.socket, fixture: Fixture) -> str:
    multiplexer = states.make("kcm", "fresh", fixture)
    parser = fixture.keep(asm.load_program(CONTEXTS["socket_filter"], asm.put(asm.R0, 0) + asm.EXIT))
    return attempt(fcntl.ioctl, multiplexer, _SIOCKCMATTACH, struct.pack("=ii", end.fileno(), parser))


def _sock_ops(table: Map, kind: str, fixture: Fixture) -> Steps:
    """Let programs of a cgroup insert both ends of a connection as they are established."""
    hashed = maps.info(table).type == syscall.MAP_TYPES["sockhash"]
    cgroup = _own_cgroup(fixture)
    # Other listeners are older than this cgroup, and not in it.
    listener = states.make(kind, "listening", fixture)
    orders = {}
    for key, (end, event) in enumerate(_ENDS.items()):
        orders[end] = Orders(fixture, f"sock_ops_enrol_{'hash' if hashed else 'map'}", "sock_ops", {"enrolled": table})
        orders[end].give(port=listener.getsockname()[1], callbacks=1 << event, key=key)
        links.attach(cgroup, orders[end].program, CONTEXTS["sock_ops"].attach_type, hooks.ALLOW_MULTI)
    states.make(kind, "fresh", fixture).connect(listener.getsockname())
    fixture.enter_context(listener.accept()[0])
    return {end: orders[end].answer(event) if orders[end].calls(event) else "never" for end, event in _ENDS.items()}


def _own_cgroup(fixture: Fixture) -> int:
    """Move to a new cgroup, and back in the end; return its descriptor."""
    new = f"{cgroups.home()}/conform-{os.getpid()}"
    os.mkdir(new)
    fixture.callback(os.rmdir, new)
    cgroups.enter(new)
    fixture.callback(cgroups.enter, cgroups.home())
    return fixture.keep(os.open(new, os.O_RDONLY | os.O_DIRECTORY))


_LAYERS = by_name(_tls_first, _tls_second, _kcm_first, _kcm_second, _sock_ops)
