# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel keeps, counted: sockets, BPF objects, descriptors, memory; and what of it grew.

Sockets are those of this thread's network namespace, so one of our own makes their number exact (netns.py); objects
and memory are everybody's. `/proc/slabinfo` takes for used what waits in a cache of some processor, so those caches are
emptied before it is read. Memory that RCU holds back for seconds (kfree_rcu) is freed where the kernel is asked to
shrink its caches.
"""

from __future__ import annotations

import glob
import math
import os
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Final

from bpf.guest import syscall
from conformance.guestlib import procfs
from conformance.guestlib.sock_diag import Lister

Growth = dict[str, int]
"""What there is more of, by a name that says what it is; each at least 1."""

_CHARGED: Final = "pages charged to "
_RESERVE: Final = 256 * (os.cpu_count() or 1)
"""Pages that a protocol may be charged with in advance: 3cd3399dd7a8 ("net: implement per-cpu reserves for
memory_allocated"), 6.0."""

_ID_FIELDS: Final = {"map_id": "map", "prog_id": "program", "link_id": "link"}
_Item = tuple[str, bytes | int | str]
"""What it is, and which."""

_NEXT_ID: Final = {"map": 12, "program": 11, "link": 31}
"""BPF_*_GET_NEXT_ID."""
_NETWORK: Final = "/proc/thread-self/net"
_NAMES: Final = (
    r"kmalloc-(?:cg-)?\d+k?|skbuff_\S*|sock_inode_cache|(?:request|tw)_sock_TCP\S*|(?:TCP|UDP|UNIX)\S*|AF_VSOCK"
    r"|net_namespace"
)
_CACHES: Final = re.compile(_NAMES)
"""The slab caches that hold what belongs to sockets; psock, messages and links are plain kmalloc."""
_ACTIVE: Final = re.compile(rf"^({_NAMES}) +(\d+)", re.MULTILINE)
"""Such a cache and its objects, in /proc/slabinfo. One search of a long text is many times quicker than its lines."""
_PROTOCOL: Final = re.compile(r"^(\S+) +\d+ +(\d+) +(-?\d+) ", re.MULTILINE)
"""A protocol, its sockets and pages, in /proc/net/protocols."""
_PERCPU: Final = re.compile(r"^Percpu: +(\d+)", re.MULTILINE)
_SMALLEST: Final = "kmalloc-8"
_SLABS: Final = "/sys/kernel/slab"
_DROP_CACHES: Final = "/proc/sys/vm/drop_caches"
_KMEMLEAK: Final = "/sys/kernel/debug/kmemleak"
_UNREFERENCED: Final = "unreferenced object"
_PAUSE: Final = 0.002
_NAMED: Final = 6
"""Growths to tell of, the largest first."""


class Snapshot:
    """What there is now; later `kept` and `memory` say what came since and stays.

    `patience` is how many seconds the kernel may take to come to rest.
    """

    def __init__(self, lister: Lister, patience: float) -> None:
        self._lister, self._patience = lister, patience
        # First, because it opens what it empties caches by.
        self._memory = memory()
        self._items = self._list()
        self._inuse = dict(_inuse())
        self._suspects: set[_Item] | None = None

    def kept(self) -> Growth:
        """Wait until nothing is left of what can be counted exactly; say what is nevertheless."""
        # kfree_rcu() then lets go of its objects before memory is counted, and that need not be done twice.
        release_memory()
        return self._at_rest(self.left, _collect_garbage)

    def memory(self, bounds: Mapping[str, int], slack: int) -> Growth:
        """Wait until memory has grown by no more than a bound and some slack; say what has nevertheless."""

        def beyond() -> Growth:
            return {
                name: count
                for name, count in _more(memory(), self._memory).items()
                if count > bounds.get(name, 0) + (_RESERVE if name.startswith(_CHARGED) else slack)
            }

        return self._at_rest(beyond, release_memory)

    def _at_rest(self, look: Callable[[], Growth], help_along: Callable[[], None]) -> Growth:
        """Look until there is nothing to see, or for long no less of it than before."""
        least, deadline = math.inf, 0.0
        while found := look():
            if sum(found.values()) < least:
                least, deadline = sum(found.values()), time.monotonic() + self._patience
            elif time.monotonic() > deadline:
                break
            help_along()
            time.sleep(_PAUSE)
        return found

    def left(self) -> Growth:
        """Say what there is more of than in the beginning and was at each look since the first.

        What came later, or what another process has open, is not what the looks are about.
        """
        items = self._list()
        new = items.keys() - self._items.keys()
        self._suspects = new if self._suspects is None else self._suspects & new
        if any(what in _NEXT_ID for what, _ in self._suspects):
            self._suspects -= set(_of_others())
        return dict(Counter(items[each] for each in self._suspects)) | _more(dict(_inuse()), self._inuse)

    def _list(self) -> dict[_Item, str]:
        """Return what there is, each with a name that it shares with its like."""
        opened = {name: _target(name) for name in os.listdir("/proc/self/fd")}
        return {
            **{("socket", cookie): f"{name} socket" for cookie, name in self._lister.sockets().items()},
            **{(kind, each): f"BPF {kind}" for kind, command in _NEXT_ID.items() for each in _ids(command)},
            **{(name, what): f"descriptor of {what.partition(':[')[0]}" for name, what in opened.items() if what},
        }


def memory() -> dict[str, int]:
    """Count objects of slab caches, areas of vmalloc by who has them, and pages of a few kinds."""
    # Areas take the longest to list, long enough for RCU to free what the caches below are to be rid of.
    found = {
        **{f"vmalloc {name}": count for name, count in _areas().items()},
        # A protocol that counts no pages has -1.
        **{f"{_CHARGED}{name}": pages for name, _, pages in _protocols() if pages >= 0},
    }
    kilobytes = sum(map(int, _PERCPU.findall(procfs.read("/proc/meminfo"))))
    found["pages of per-CPU memory"] = kilobytes * 1024 // os.sysconf("SC_PAGE_SIZE")
    for shrinker in _shrinkers():
        os.write(shrinker, b"1")
    found |= {f"slab {name}": int(active) for name, active in _ACTIVE.findall(procfs.read("/proc/slabinfo"))}
    if os.path.exists(_KMEMLEAK):
        procfs.write(_KMEMLEAK, "scan")
        found["kmemleak"] = procfs.read(_KMEMLEAK).count(_UNREFERENCED)
    return found


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> Growth:
    """Say of what there is more now."""
    return {name: count - before.get(name, 0) for name, count in now.items() if count > before.get(name, 0)}


def release_memory() -> None:
    """Have memory freed that only waits for being so many that it is worth while."""
    with suppress(OSError):
        _hush()
        # What shrinks when asked to: kfree_rcu() is among it, and would else take five seconds.
        procfs.write(_DROP_CACHES, "2")


def _collect_garbage() -> None:
    """Close a UNIX socket: only then the kernel looks for those that are in messages to each other."""
    for each in socket.socketpair():
        each.close()


def growth_text(growth: Growth) -> str:
    """Name what there is more of, the most of it first; `"balanced"` if nothing."""
    largest = sorted(growth.items(), key=lambda item: -item[1])[:_NAMED]
    return ", ".join(f"{count} {name}" for name, count in largest) or "balanced"


@cache
def _hush() -> None:
    """Have the kernel log say nothing of it: it is asked hundreds of times."""
    procfs.write(_DROP_CACHES, "4")


def _ids(command: int) -> Iterator[int]:
    number = 0
    while True:
        attributes = bytearray(struct.pack("=III", number, 0, 0))
        try:
            syscall.call(command, attributes)
        except OSError:
            return
        number = struct.unpack_from("=I", attributes, 4)[0]
        yield number


def _of_others() -> Iterator[_Item]:
    """Yield the BPF objects that other processes have descriptors of; there are none but on a host."""
    for path in glob.glob("/proc/[0-9]*/fdinfo/*"):
        if path.split("/")[2] != str(os.getpid()):
            for line in procfs.read(path).splitlines():
                name, _, value = line.partition(":")
                if name in _ID_FIELDS:
                    yield _ID_FIELDS[name], int(value)


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        # The one that lists them.
        return ""


def _inuse() -> Iterator[tuple[str, int]]:
    """Count sockets by /proc/net/sockstat and /proc/net/protocols, which see some that nobody lists any more."""
    for name in ("sockstat", "sockstat6"):
        for line in procfs.read(f"{_NETWORK}/{name}").splitlines():
            protocol, *words = line.replace(":", "").split()
            for what, count in zip(words[::2], words[1::2], strict=False):
                # The others are not of this namespace alone.
                if what in ("used", "inuse", "tw"):
                    yield f"{protocol} {what} in {name}", int(count)
    for protocol, inuse, _ in _protocols():
        yield f"{protocol} in protocols", inuse


def _protocols() -> Iterator[tuple[str, int, int]]:
    """Yield name, number of sockets and pages of each protocol."""
    for name, count, pages in _PROTOCOL.findall(procfs.read(f"{_NETWORK}/protocols")):
        yield name, int(count), int(pages)


class _Allocators(dict[str, str]):
    """The function that allocated an area, by its line; nearly every line is the same at the next look."""

    def __missing__(self, line: str) -> str:
        """Read a line that is new; an area without an allocator has none."""
        words = line.split(maxsplit=3)
        name = self[line] = words[2].partition("+")[0] if len(words) > 2 else ""
        return name


_allocators = _Allocators()
_KNOWN: Final = 1 << 13
"""Lines to remember at most."""


@cache
def _shrinkers() -> tuple[int, ...]:
    """Open what empties a cache, once: opening it is what would fill another.

    So is writing to it, for which the kernel takes an object of the smallest cache: that one is emptied last.
    """
    if not os.path.isdir(_SLABS):
        return ()
    names = sorted(filter(_CACHES.fullmatch, os.listdir(_SLABS)), key=_SMALLEST.__eq__)
    return tuple(os.open(f"{_SLABS}/{name}/shrink", os.O_WRONLY) for name in names)


def _areas() -> Counter[str]:
    """Count areas by the function that allocated them."""
    if len(_allocators) > _KNOWN:
        _allocators.clear()
    found = Counter(map(_allocators.__getitem__, procfs.read("/proc/vmallocinfo").splitlines()))
    # What is free already, and the stacks of threads: work queues have as many as they like.
    for name in ("", "unpurged", "kernel_clone", "copy_process"):
        del found[name]
    return found
