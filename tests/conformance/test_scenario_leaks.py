# SPDX-License-Identifier: GPL-2.0-only
"""The counters on the running kernel: they balance, and name a planted leak."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.groups.leaks.cases import WAYS
from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

CODE = """
import os
import signal
import socket
import time

from bpf.guest import syscall
from conformance.groups.leaks.guest import scenario as leaks
from conformance.guestlib import counters
from conformance.guestlib import map_pair
from conformance.guestlib import netns
from conformance.guestlib import sock_diag
from conformance.guestlib import sockets
from conformance.guestlib import ways_out

counters._NAMED = 1000

def carry_out(arguments):
    kept = []
    leaks._PATIENCE = 0.05 if arguments["fault"] else 4.0
    leaks._bounds[arguments["kind"], 8] = {}
    plant = FAULTS[arguments["fault"]]()
    way = ways_out.WAYS["close"]
    ways_out.WAYS["close"] = lambda case: (kept.append(plant(case.pair, case.end)), way(case))[1]
    try:
        return leaks.run({"way": "close", "kind": arguments["kind"], "rounds": "8"})["steps"]
    finally:
        ways_out.WAYS["close"] = way
        for each in filter(None, kept):
            each.close() if isinstance(each, socket.socket) else os.close(each)

def queueing():
    # So much that what else the host does is nothing beside it.
    outgoing, incoming = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    outgoing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return lambda maps, ours: ([outgoing.send(b"x", socket.MSG_DONTWAIT) for _ in range(12)], incoming) and None

FAULTS = {
    "": lambda: lambda maps, ours: None,
    "socket": lambda: lambda maps, ours: ours.dup(),
    "map": lambda: lambda maps, ours: syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 4),
    "program": lambda: lambda maps, ours: os.dup(maps.spare),
    "memory": queueing,
    "descriptor": lambda: lambda maps, ours: os.open("/dev/null", os.O_RDONLY),
}

def listed(arguments):
    with netns.inside(netns.ours()):
        lister = sock_diag.Lister()
        before = lister.sockets()
        one, other = sockets.pair(arguments["kind"])
        with one, other:
            after = lister.sockets()
        lister.close()
    return sorted(name for cookie, name in after.items() if cookie not in before)

def of_others(arguments):
    # A map that another process made meanwhile, and then nobody has open but we.
    with netns.inside(netns.ours()):
        lister = sock_diag.Lister()
        before = counters.Snapshot(lister, 0)
        ready, made = os.pipe()
        pid = os.fork()
        if not pid:
            syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 4)
            os.write(made, b"x")
            signal.pause()
        os.read(ready, 1)
        theirs = before.left()
        # What other tests had open and closed between two looks belongs to nobody for a moment.
        deadline = time.monotonic() + 10
        while theirs.get("BPF map", 0) and time.monotonic() < deadline:
            theirs = before.left()
        later = counters.Snapshot(lister, 0)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        ours = syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 4)
        mine = later.left()
        deadline = time.monotonic() + 10
        while mine.get("BPF map", 0) > 1 and time.monotonic() < deadline:
            mine = later.left()
        for each in (ready, made, ours):
            os.close(each)
        lister.close()
    return [theirs.get("BPF map", 0), mine.get("BPF map", 0)]

def known(arguments):
    return sorted(map_pair.WAYS)

def ways(arguments):
    found = {}
    for way in arguments["ways"]:
        found[way] = leaks.run({"way": way, "kind": arguments["kind"], "rounds": "8"})["steps"]
    return found
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    """The host with the scenarios loaded."""
    with open_host(CODE) as session:
        yield session


@pytest.mark.parametrize("kind", ["tcp4", "unix_stream"])
def test_nothing_countable_is_left_of_a_closed_socket(host: Session, kind: str) -> None:
    """Sockets and objects of a sound kernel balance; its memory is shared by all, so it is not checked here."""
    steps = ask(host, "carry_out", kind=kind, fault="")

    assert (steps["insert"], steps["way"], steps["kept"]) == ("ok", "ok", "balanced")


@pytest.mark.parametrize(
    ("fault", "step", "named"),
    [
        ("socket", "kept", "8 unix ESTABLISHED socket"),
        ("map", "kept", "8 BPF map"),
        ("program", "kept", "8 descriptor of anon_inode:bpf-prog"),
        ("memory", "memory", "slab skbuff_head_cache"),
        ("descriptor", "kept", "8 descriptor of /dev/null"),
    ],
)
def test_a_planted_leak_is_named(host: Session, fault: str, step: str, named: str) -> None:
    """A leaked socket, map, program, descriptor or memory is named with its number."""
    assert named in ask(host, "carry_out", kind="unix_dgram", fault=fault)[step]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("tcp4", ["tcp4 ESTABLISHED", "tcp4 ESTABLISHED", "tcp4 LISTEN"]),
        ("udp6", ["udp6 ESTABLISHED", "udp6 ESTABLISHED"]),
        ("unix_stream", ["unix ESTABLISHED", "unix ESTABLISHED"]),
    ],
)
def test_sockets_are_listed_by_kind_and_state(host: Session, kind: str, names: list[str]) -> None:
    """sock_diag shows every socket of the namespace and none of others."""
    assert ask(host, "listed", kind=kind) == names


def test_what_another_process_has_open_is_not_ours(host: Session) -> None:
    """On a host, programs that other processes have open are not leaks."""
    assert ask(host, "of_others") == [0, 1]


def test_the_catalogue_and_the_guest_know_the_same_ways(host: Session) -> None:
    """Catalogue and guest have the same ways out."""
    assert ask(host, "known") == sorted(WAYS)


def test_ways_out_leave_nothing(host: Session) -> None:
    """Each way out can be repeated, and no countable object is left."""
    ways = ["destroy", "replace-by-itself", "owner-killed", "in-flight"]
    for way, steps in ask(host, "ways", kind="udp4", ways=ways).items():
        assert (way, steps["way"], steps["kept"]) == (way, "ok", "balanced")
