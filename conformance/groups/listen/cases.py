# SPDX-License-Identifier: GPL-2.0-only
"""The listener cases: a TCP listener in a map, and the sockets that accept(2) returns for it.

A *child* is a socket that accept(2) returns. A case combines the program of the listener's map, the state of the
listener, and the map of the child: the listener's map (`inserted`), a map without a program (`plain`), or none
(`apart`). Where the kernel runs the same code for several combinations, one case stands for all of them:

- SOCKMAP and SOCKHASH, IPv4 and IPv6: each program and each state of the listener has a case with each of them.
- `plain`: asked where the listener's map has a verdict or a parser. Both replace callbacks of the listener, and the
  child copies these. An SK_MSG program replaces none.
- A sock_ops program inserts listener and child: asked with the listener in its map, or deleted before accept(2). After
  accept(2) nothing depends on whether bpf(2) or the program inserted them.
- TCP Fast Open, where the child exists before the handshake ends: asked with the listener in its map.

Left out: data after accept(2) for a child in no map, whose listener stays in a map with a verdict. The group enrol asks
that (`pidfd-listener-*-source`). Left out: a child whose handshake lacks its last packet. No map accepts that child,
accept(2) does not return it, and the peer retransmits the packet only after a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from conformance.model import Case

PROMISE: Final = (
    "A connection to a listener in a map wakes accept(2). The accepted socket works like one outside of maps. If it is "
    "inserted into a map, it runs that map's programs."
)

WARM_UP: Final = frozenset(
    (
        "child-syscall-msg-inserted-kept-early-sockhash-tcp6",
        "child-sock_ops-msg-inserted-kept-late-sockhash-tcp6",
        "churn-syscall-none-apart-churned-late-sockmap-tcp4",
    )
)

PROGRAMS: Final = ("none", "msg", "verdict", "parser")
LISTENERS: Final = ("kept", "deleted_early", "deleted", "closed")
"""The listener stays in the map, is deleted from it before or after accept(2), or is closed after accept(2).

A fifth state, `outside`: the listener never was in a map. Then every kernel survives a child with a verdict or parser.
"""
DATA: Final = ("early", "late")
"""Data arrives before accept(2) and after, or only after."""
_PLACES: Final = (("sockmap", "tcp4"), ("sockhash", "tcp6"))
_ELSEWHERE: Final = ("verdict", "apart", "kept", "late")
"""The combination that the group enrol asks."""
_SOON: Final = 0.25
"""Deadline in seconds: fifty times what a case takes. On a kernel that hangs, a longer one would only cost time."""
_LONG: Final = 2.0
"""Deadline in seconds of a case with many connections."""


@cache
def listen_cases() -> tuple[Case, ...]:
    """List the listener cases."""
    return (*_children(), *_orphans(), *_churn())


def _children() -> Iterator[Case]:
    for program, child, listener, data in product(PROGRAMS, ("apart", "inserted"), LISTENERS, DATA):
        if (program, child, listener, data) != _ELSEWHERE:
            yield _case("child", "syscall", program, child, listener, data)
    for program, listener in product(("verdict", "parser"), ("kept", "deleted")):
        yield _case("child", "syscall", program, "plain", listener, "late")
    for program, listener, data in product(PROGRAMS, ("kept", "deleted_early"), DATA):
        yield _case("child", "sock_ops", program, "inserted", listener, data)
    for by, program in product(("syscall", "sock_ops"), PROGRAMS[1:]):
        yield _case("child", by, program, "inserted", "outside", "early")
    for program, child in product(PROGRAMS, ("apart", "inserted")):
        yield _case("child", "syscall", program, child, "kept", "fastopen")


def _orphans() -> Iterator[Case]:
    for by, program, data in product(("syscall", "sock_ops"), PROGRAMS, ("none", "early")):
        child = "apart" if by == "syscall" else "inserted"
        yield _case("orphan", by, program, child, "closed", data)


def _churn() -> Iterator[Case]:
    for program in PROGRAMS:
        yield _case("churn", "syscall", program, "apart", "churned", "late")


def _case(what: str, by: str, program: str, child: str, listener: str, data: str) -> Case:
    values = {"what": what, "by": by, "program": program, "child": child, "listener": listener, "data": data}
    # Each program is asked with each state of the listener in both places.
    turn = PROGRAMS.index(program) + (data == "early") + (child == "inserted") + (by == "sock_ops")
    map_, kind = _PLACES[turn % 2]
    return Case(
        group="listen",
        name="-".join((*values.values(), map_, kind)),
        scenario="conformance.groups.listen.guest.scenario:run",
        params={**values, "map": map_, "kind": kind},
        deadline=_LONG if what == "churn" else _SOON,
    )
