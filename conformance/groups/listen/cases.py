# SPDX-License-Identifier: GPL-2.0-only
"""The listener cases: TCP sockets that a listener in a map accepts, and the listener itself.

A child is what accept(2) returns. It is asked about for each program of the listener's map, the state of the listener,
and whether the child is inserted into the same map (`inserted`) or not (`apart`). Folded into one case, because the
kernel runs the same code:

- SOCKMAP and SOCKHASH, IPv4 and IPv6: each program and each state of the listener has cases with both;
- a child in a map without a program (`plain`): asked where the listener's map has a verdict or a parser, which change
  the callbacks that the child copies; an SK_MSG program changes none;
- a sock_ops program inserts listener and child: only with the listener in its map, or deleted before accept(2). What
  happens after accept(2) is the same as for an insertion by bpf(2);
- TCP Fast Open, whose child exists before the handshake ends: only with the listener in its map.

Left out: a child in no map whose listener stays in a map with a verdict, and to which data comes after accept(2). The
group enrol asks it (`pidfd-listener-*-source`). Left out, too: a child whose handshake waits for its last packet. No
map takes it, accept(2) does not return it, and the packet is only sent again after a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from conformance.model import Case

PROMISE: Final = (
    "A listener in a map wakes accept(2), and what it accepts reads, writes and wakes as outside of maps, or runs the "
    "programs of the map that it enters."
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
"""The listener stays in the map, leaves it before or after accept(2), or is closed after accept(2).

`outside`, it never was in a map: there every kernel survives a child with a verdict or a parser.
"""
DATA: Final = ("early", "late")
"""Data arrives before accept(2) and after, or only after."""
_PLACES: Final = (("sockmap", "tcp4"), ("sockhash", "tcp6"))
_ELSEWHERE: Final = ("verdict", "apart", "kept", "late")
"""Asked by the group enrol."""
_SOON: Final = 0.25
"""Seconds, for a case that takes a fiftieth of that: where the kernel hangs, it need not be waited for long."""
_LONG: Final = 2.0


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
    # Each program meets each state of the listener in both places.
    turn = PROGRAMS.index(program) + (data == "early") + (child == "inserted") + (by == "sock_ops")
    map_, kind = _PLACES[turn % 2]
    return Case(
        group="listen",
        name="-".join((*values.values(), map_, kind)),
        scenario="conformance.groups.listen.guest.scenario:run",
        params={**values, "map": map_, "kind": kind},
        deadline=_LONG if what == "churn" else _SOON,
    )
