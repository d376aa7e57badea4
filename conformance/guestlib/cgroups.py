# SPDX-License-Identifier: GPL-2.0-only
"""Cgroups of our own, for processes whose sockets programs are to see."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache

from conformance.guestlib import procfs
from conformance.guestlib.child import Child

_PREFIX = "conform-"

_made: dict[int, Mapping[str, str]] = {}


def cgroups_of(child: Child) -> Mapping[str, str]:
    """Return the paths of the cgroups made for a child: `outer`, `inner`, which it is in, and `beside` the outer one.

    The child removes them when it ends of itself.
    """
    if child.pid not in _made:
        _remove_abandoned()
        outer = f"{home()}/{_PREFIX}{child.pid}"
        paths = {"outer": outer, "inner": f"{outer}/inner", "beside": f"{outer}-beside"}
        for path in paths.values():
            os.mkdir(path)
        child.command("move", [home(), paths["inner"], outer, paths["beside"]])
        _made[child.pid] = paths
    return _made[child.pid]


def _remove_abandoned() -> None:
    """Remove what processes left behind that did not end of themselves."""
    for name in os.listdir(home()):
        pid = name.removeprefix(_PREFIX).removesuffix("-beside")
        if name.startswith(_PREFIX) and not os.path.exists(f"/proc/{pid}"):
            for path in (f"{home()}/{name}/inner", f"{home()}/{name}"):
                with suppress(OSError):
                    os.rmdir(path)


def enter(cgroup: str) -> None:
    """Move this process to a cgroup."""
    procfs.write(f"{cgroup}/cgroup.procs", "0")


@cache
def home() -> str:
    """Return our own cgroup's directory; OSError if the kernel has no second version of cgroups."""
    lines = procfs.read("/proc/self/cgroup").splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return f"{procfs.mounted('cgroup2') or procfs.mount('cgroup2')}{own}".rstrip("/")
