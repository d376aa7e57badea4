# SPDX-License-Identifier: GPL-2.0-only
"""The teardown cases: the ways out of a map, crossed with what the socket is, what it does there, and its data.

Folded, because it means the same to the kernel:

- a socket that is IN without a program and one that is not used at all; OUT with a program of its own is both; both
  is asked with a verdict, which is the only program that every kind runs;
- an SK_MSG program or a parser on what is not TCP: the first never runs, the second is refused since 6.14;
- data that the part does not meet: an SK_MSG program and OUT see nothing of what comes natively, so `member` stands for
  them there; verdict and parser see nothing of what is sent, so `member` and `msg` have the senders;
- whoever polls: poll, select, epoll by level and epoll by edge wait side by side in one case;
- the type of map, while data is in flight and for what does not touch the map: it decides how an entry is found and
  removed, not what becomes of the data. Each kind is then asked with one type, its twin with the other;
- IPv4 and IPv6, in the same way: the same functions serve both;
- both, for all but the ways out that remove the entry: it shows no more than IN and OUT do;
- a thread in recv(2) on VSOCK, but for one way out: it keeps everybody else from the socket, so no other way differs.

Impossible, hence not there: data redirected to VSOCK (no kernel allows it), a backlog of UDP, which never makes its
sender wait, data corked elsewhere than on TCP, a reset where the kind knows none, VSOCK in a network namespace. With
its namespace goes the peer, too: nobody is left to see what became of what was corked. Polled by epoll, a socket that
is closed meanwhile leaves the set, so `pollers` are not asked there. A TCP socket that has shut down reading still gets
what comes, now and then: no sender waits for it in a way that can be told. What arrives of what is in flight when a
socket is disconnected is chance. What becomes of a backlog when the socket cannot send any more is told it a jiffy
later, or two.

Whether TCP may be disconnected while a thread waits has changed twice: 4faeee0cf8a5 ("tcp: deny tcp_disconnect() when
threads are waiting"), 6.4, and 419ce133ab92 ("tcp: allow again tcp_disconnect() when threads are waiting"), 6.6. A
reader is asked all the same: the control says what this kernel does without a map.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from conformance.groups.kinds import KINDS
from conformance.groups.kinds import MAPS
from conformance.model import Case

PROMISE: Final = "A socket that leaves a map loses no byte, keeps nobody waiting, and works as if it had never been in."

PARTS: Final = {
    "member": ("in", "none"),
    "msg": ("in", "msg"),
    "verdict": ("in", "verdict"),
    "parser": ("in", "parser"),
    "target": ("out", "none"),
    "both": ("both", "verdict"),
}
"""Role and program, by a short name."""
STATES: Final = {
    "member": ("none", "native", "reader", "pollers", "sender"),
    "msg": ("none", "corked", "applied", "sender"),
    "verdict": ("none", "native", "passed", "reader", "pollers"),
    "parser": ("none", "native", "passed", "reader"),
    "target": ("none", "redirected", "backlog", "reader"),
    "both": ("none", "passed", "redirected"),
}
"""The states the data can be in."""
OUT: Final = ("close", "delete", "destroy", "disconnect", "replace")
"""The ways out, asked of everything."""
SHUT: Final = (
    "shut_rd", "shut_wr", "shut_both", "peer_shut_rd", "peer_shut_wr", "peer_shut_both", "peer_close", "peer_reset",
)  # fmt: skip
"""What happens to the connection."""
LAST: Final = ("duplicate", "dup2", "in_flight", "stolen", "killed", "namespace", "close_both")
"""What else closes a socket."""
OTHERS: Final = ("itself", "detach", "link", "swap", "delete_one", "destroy_one", "unpin", "held")
"""What happens to the map or its programs."""
_REMOVING: Final = ("delete", "delete_one", "destroy", "replace", "unpin")
_STAYING: Final = ("destroy_one", "detach", "itself", "link", "swap")
FAMILIES: Final = {
    "closing": ("close", *LAST),
    "closing_alone": ("close", *(way for way in LAST if way != "namespace")),
    "of_connection": ("disconnect", *SHUT),
    "of_map": (*_REMOVING, *_STAYING, "held"),
    "removing": _REMOVING,
    "staying": _STAYING,
    "arrived": ("native", "passed", "redirected"),
}
"""What rows may say in place of several ways out, or of several states of the data.

A row names a family where the reason holds for every way out of that kind, so that a new one has its promises and its
known defects at once. `closing_alone` closes the socket and leaves the peer open.
"""

_FEW: Final = {
    SHUT: {
        "msg": ("corked",),
        "verdict": ("none", "passed", "reader", "pollers"),
        "parser": ("none", "passed"),
        "target": ("redirected", "backlog"),
        "member": ("sender",),
    },
    LAST: {"msg": ("corked",), "verdict": ("none", "passed"), "target": ("redirected",)},
    OTHERS: {
        "member": ("none",),
        "msg": ("none", "corked"),
        "verdict": ("none", "passed"),
        "parser": ("passed",),
        "target": ("redirected",),
    },
}
"""The states asked of all but the ways out."""
_RESET: Final = ("tcp6", "unix_stream")
_MUTE: Final = ("shut_wr", "shut_both", "peer_shut_rd", "peer_shut_both", "peer_close", "peer_reset")
_DEAF: Final = ("peer_shut_rd", "peer_shut_both")
_ONE_OF_TWINS: Final = ("tcp4", "udp6", "unix_stream", "unix_dgram", "vsock_stream", "vsock_seqpacket")
_OTHER_TWINS: Final = ("tcp6", "udp4", *_ONE_OF_TWINS[2:])
_MAP: Final = {kind: MAPS[number % len(MAPS)] for number, kind in enumerate(KINDS)}
"""The type of map that a kind is asked in where the type plays no part."""


@cache
def teardown_cases() -> tuple[Case, ...]:
    """List the teardown cases."""
    return (*_ways_out(), *_relatives())


def _ways_out() -> Iterator[Case]:
    for exit_ in OUT:
        for kind in KINDS:
            for part, states in STATES.items():
                for data in states:
                    maps = MAPS if data == "none" else (_MAP[kind],) if kind in _ONE_OF_TWINS else ()
                    for map_ in maps if possible(exit_, kind, part, data) else ():
                        yield _case(exit_, map_, kind, part, data)


def _relatives() -> Iterator[Case]:
    for exits, parts in _FEW.items():
        for exit_ in exits:
            for kind in _OTHER_TWINS:
                for part, states in parts.items():
                    for data in states:
                        if possible(exit_, kind, part, data):
                            yield _case(exit_, _MAP[kind], kind, part, data)


def possible(exit_: str, kind: str, part: str, data: str) -> bool:
    """Whether there is such a thing."""
    return not any(
        (
            part == "both" and exit_ == "disconnect",
            data == "reader" and kind.startswith("vsock") and exit_ != "delete",
            part in ("msg", "parser") and not kind.startswith("tcp"),
            data == "redirected" and kind.startswith("vsock"),
            data in ("backlog", "sender") and kind.startswith("udp"),
            data == "pollers" and exit_ == "close",
            data in ("backlog", "sender") and exit_ in _DEAF and kind.startswith("tcp"),
            data in ("backlog", "sender") and exit_ == "disconnect" and kind in ("tcp4", "tcp6", "unix_dgram"),
            data == "backlog" and exit_ in _MUTE,
            exit_ == "peer_reset" and kind not in _RESET,
            exit_ == "namespace" and (kind.startswith("vsock") or data == "corked"),
            exit_ == "held" and part != "target",
            exit_ in ("detach", "link", "swap") and part in ("member", "target"),
            exit_ == "itself" and part == "target",
        )
    )


def _case(exit_: str, map_: str, kind: str, part: str, data: str) -> Case:
    role, program = PARTS[part]
    params = {"exit": exit_, "map": map_, "kind": kind, "role": role, "program": program, "data": data}
    name = f"{exit_}-{map_}-{kind}-{part}-{data}"
    # Before a sender counts as stuck, TCP's own timers have run.
    deadline = 10.0 if data in ("backlog", "sender") else 1.0
    return Case("teardown", name, "conformance.groups.teardown.guest.scenario:run", params, deadline)
