# SPDX-License-Identifier: GPL-2.0-only
"""A TCP socket that something else lives on, or is to: TLS, KCM, MPTCP."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import ExitStack

from bpf.guest import assemble as asm
from bpf.guest import maps
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS
from conformance.groups.insert.guest.bench import Steps
from conformance.groups.insert.guest.bench import mount
from conformance.groups.insert.guest.bench import whose
from conformance.guestlib import states
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.answers import name_of

_TCP_ULP = 31
_SOL_TLS, _TLS_TX, _TLS_RX = 282, 1, 2
_KEYS = struct.pack("=HH", 0x0303, 51) + bytes(36)
"""TLS 1.2, AES-GCM-128, and the key and all else zeros."""
_SIOCKCMATTACH = 0x89E0

_PROG_ATTACH, _ALLOW_MULTI = 8, 2
_SOCK_OPS, _SOCK_MAP_UPDATE, _SOCK_HASH_UPDATE = 3, 53, 70
_ACTIVE, _PASSIVE = 4, 5
_ENDS = ("active", "passive")


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case; `params`: `map`, `kind`, `layer`, a name in `_LAYERS`, whose functions tell the steps.

    The only step is `available` where this kernel has, here and now, no such layer.
    """
    with ExitStack() as keep:
        map_fd = syscall.create_map(syscall.MAP_TYPES[params["map"]], 4, 8, 2)
        keep.callback(os.close, map_fd)
        try:
            return {"steps": _LAYERS[params["layer"]](map_fd, params["kind"], keep)}
        except states.UnavailableError as error:
            return {"steps": {"available": name_of(error)}}


def _tls_first(map_fd: int, kind: str, keep: ExitStack) -> Steps:
    """Insert a socket that has the TLS protocol, without keys and with."""
    _need_tls(kind, keep)
    bare, ready = (states.make(kind, "established", keep) for _ in range(2))
    for end in (bare, ready):
        end.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
    ready.setsockopt(_SOL_TLS, _TLS_TX, _KEYS)
    return {
        "bare": attempt(syscall.update, map_fd, 0, bare.fileno()),
        "with keys": attempt(syscall.update, map_fd, 1, ready.fileno()),
    }


def _tls_second(map_fd: int, kind: str, keep: ExitStack) -> Steps:
    """Give the TLS protocol and keys to a socket that is in the map."""
    _need_tls(kind, keep)
    end = states.make(kind, "established", keep)
    return {
        "insert": attempt(syscall.update, map_fd, 0, end.fileno()),
        "protocol": attempt(end.setsockopt, socket.IPPROTO_TCP, _TCP_ULP, b"tls"),
        "send keys": attempt(end.setsockopt, _SOL_TLS, _TLS_TX, _KEYS),
        "receive keys": attempt(end.setsockopt, _SOL_TLS, _TLS_RX, _KEYS),
        "insert again": attempt(syscall.update, map_fd, 1, end.fileno()),
        "lookup": whose(map_fd, 0, end),
        "delete": attempt(syscall.delete, map_fd, 0),
    }


def _need_tls(kind: str, keep: ExitStack) -> None:
    end = states.make(kind, "established", keep)
    try:
        end.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        end.setsockopt(_SOL_TLS, _TLS_TX, _KEYS)
    except OSError as error:
        raise states.UnavailableError(error.errno, error.strerror) from None


def _kcm_first(map_fd: int, kind: str, keep: ExitStack) -> Steps:
    """Insert a socket that a KCM socket receives from."""
    end = states.make(kind, "established", keep)
    attach = _multiplex(end, keep)
    return {"attach": attach, "insert": attempt(syscall.update, map_fd, 0, end.fileno())}


def _kcm_second(map_fd: int, kind: str, keep: ExitStack) -> Steps:
    """Have a KCM socket receive from a socket that is in the map."""
    end = states.make(kind, "established", keep)
    steps = {"insert": attempt(syscall.update, map_fd, 0, end.fileno()), "attach": _multiplex(end, keep)}
    return steps | {"lookup": whose(map_fd, 0, end), "delete": attempt(syscall.delete, map_fd, 0)}


def _multiplex(end: socket.socket, keep: ExitStack) -> str:
    multiplexer = states.make("kcm", "fresh", keep)
    parser = asm.load_program(CONTEXTS["socket_filter"], asm.put(asm.R0, 0) + asm.EXIT)
    keep.callback(os.close, parser)
    return attempt(fcntl.ioctl, multiplexer, _SIOCKCMATTACH, struct.pack("=ii", end.fileno(), parser))


def _established(map_fd: int, kind: str, keep: ExitStack) -> Steps:
    """Let programs of a cgroup insert both ends of a connection as they are established."""
    answers = syscall.create_map(syscall.MAP_TYPES["array"], 4, 16, 1)
    keep.callback(os.close, answers)
    hashed = maps.info(map_fd).type == syscall.MAP_TYPES["sockhash"]
    cgroup = _own_cgroup(keep)
    for slot, event in enumerate((_ACTIVE, _PASSIVE)):
        update = _SOCK_HASH_UPDATE if hashed else _SOCK_MAP_UPDATE
        program = asm.load_program(CONTEXTS["sock_ops"], _enrol_at(event, map_fd, update, answers, slot))
        keep.callback(os.close, program)
        syscall.call(_PROG_ATTACH, bytearray(struct.pack("=4I", cgroup, program, _SOCK_OPS, _ALLOW_MULTI)))
    # Listeners elsewhere are older than this cgroup.
    listener = states.make(kind, "listening", keep)
    states.make(kind, "fresh", keep).connect(listener.getsockname())
    keep.enter_context(listener.accept()[0])
    found = struct.unpack("=qq", maps.lookup(answers, bytes(4), 16))
    return {end: error_name(-1 - answer) if answer else "never" for end, answer in zip(_ENDS, found, strict=True)}


def _enrol_at(event: int, map_fd: int, update: int, answers: int, slot: int) -> bytes:
    """Write a program that at one event inserts the socket, and says what came of it, less one."""
    leave = asm.put(asm.R0, 1) + asm.EXIT
    return (
        asm.move(asm.R6, asm.R1)
        + asm.load_word(asm.R7, asm.R6, 0)
        + asm.add(asm.R7, -event)
        + asm.unless_zero(asm.R7, leave)
        + asm.store(asm.STACK, -8, slot)
        + asm.move(asm.R1, asm.R6)
        + asm.put_map(asm.R2, map_fd)
        + asm.move(asm.R3, asm.STACK)
        + asm.add(asm.R3, -8)
        + asm.put(asm.R4, 0)
        + asm.call(update)
        + asm.move(asm.R1, asm.R0)
        + asm.add(asm.R1, -1)
        + asm.put_map_value(asm.R2, answers, 8 * slot)
        + asm.count(asm.R2, 0)
        + leave
    )


def _own_cgroup(keep: ExitStack) -> int:
    """Move to a new cgroup, and back in the end; return its descriptor."""
    root = _cgroups(keep)
    with open("/proc/self/cgroup", encoding="ascii") as file:
        old = next(line[3:].strip() for line in file if line.startswith("0::"))
    new = f"{root}/conform-{os.getpid()}"
    os.mkdir(new)
    keep.callback(os.rmdir, new)
    _move_to(new)
    keep.callback(_move_to, f"{root}{old}")
    descriptor = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
    keep.callback(os.close, descriptor)
    return descriptor


def _move_to(cgroup: str) -> None:
    with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def _cgroups(keep: ExitStack) -> str:
    """Return where the cgroups are mounted; mount them where they are not."""
    with open("/proc/mounts", encoding="ascii") as file:
        for line in file:
            _, folder, kind, *_ = line.split()
            if kind == "cgroup2":
                return folder
    return mount("cgroup2", keep)


_LAYERS = {
    "tls-first": _tls_first,
    "tls-second": _tls_second,
    "kcm-first": _kcm_first,
    "kcm-second": _kcm_second,
    "sock-ops": _established,
}
