# SPDX-License-Identifier: GPL-2.0-only
"""Cgroups of our own, for a process whose sockets programs are to see: one inside another, and one beside."""

from __future__ import annotations

import ctypes
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from conformance.guestlib.owner import Elsewhere

_PREFIX = "conform-"


@dataclass(frozen=True)
class Nest:
    """Paths of cgroups; the process is in `inner`."""

    outer: str
    inner: str
    beside: str


_nests: dict[int, Nest] = {}


def nest_of(owner: Elsewhere) -> Nest:
    """Return the cgroups made for a process; it moves in, and removes them when it ends of itself."""
    nest = _nests.get(owner.pid)
    if nest is None:
        nest = _nests[owner.pid] = _build(owner)
    return nest


def _build(owner: Elsewhere) -> Nest:
    home = _home()
    _clear(home)
    outer = f"{home}/{_PREFIX}{owner.pid}"
    nest = Nest(outer, f"{outer}/inner", f"{outer}-beside")
    for path in (nest.outer, nest.inner, nest.beside):
        os.mkdir(path)
    owner.command("move", home, [nest.inner, nest.outer, nest.beside])
    return nest


def _clear(home: str) -> None:
    """Remove what processes left behind that did not end of themselves."""
    for name in os.listdir(home):
        pid = name.removeprefix(_PREFIX).removesuffix("-beside")
        if name.startswith(_PREFIX) and not os.path.exists(f"/proc/{pid}"):
            for path in (f"{home}/{name}/inner", f"{home}/{name}"):
                with suppress(OSError):
                    os.rmdir(path)


@cache
def _home() -> str:
    """Return our own cgroup's directory; OSError if the kernel has no second version of cgroups."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        own = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "/")
    return f"{_mounted()}{own}".rstrip("/")


def _mounted() -> str:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, path, kind, *_ = line.split()
            if kind == "cgroup2":
                return path
    path = tempfile.mkdtemp(prefix="cgroup-")
    if ctypes.CDLL(None, use_errno=True).mount(b"cgroup2", path.encode(), b"cgroup2", 0, None):
        os.rmdir(path)
        raise OSError(ctypes.get_errno(), "no cgroup2 file system can be mounted")
    return path
