# SPDX-License-Identifier: GPL-2.0-only
"""The teardown cases: each way out of a map, for each role of a socket, its program, and the state of its data.

Some combinations are folded into one case, because the kernel runs the same code for them:

- a socket in a map without a program, and a socket that no program uses;
- OUT with a program and IN with a program: the role `both` covers them. It is asked with a verdict, the only program
  that every kind runs, and only for the ways out that remove the entry;
- poll, select, level-triggered epoll and edge-triggered epoll: four threads wait side by side in one case;
- the two map types, while data is in flight or where the way out does not touch the map. The type decides how an entry
  is found and removed, not where data goes. Each kind is asked in one type, and its IPv4 or IPv6 twin in the other;
- IPv4 and IPv6, in the same way;
- a thread in recv(2) on VSOCK, for all ways out but one: it holds the socket lock in each of them.

Some roles do not meet some data. SK_MSG programs and OUT do not see data that arrives natively, so `member` stands for
them there. Verdicts and parsers do not see data that is sent, so `member` and `msg` have the senders. SK_MSG programs
and parsers are for TCP: on other kinds the first never runs, and the second is refused since 6.14.

Left out, because it is impossible: data redirected to VSOCK (no kernel allows it), a backlog of UDP (its sender never
waits), corked data of other kinds than TCP, a reset of a kind that knows none, VSOCK in a network namespace.

Left out, because nothing can be observed: corked data when the namespace goes, which takes the peer along; `pollers` of
a socket that is closed, which epoll then removes; senders to a TCP socket that has shut down reading, which still
receives; data in flight while a socket is disconnected; a backlog whose socket can no longer send, as the sender learns
of it some jiffies later.

Whether TCP may be disconnected while a thread waits has changed twice: 4faeee0cf8a5 ("tcp: deny tcp_disconnect() when
threads are waiting"), 6.4, and 419ce133ab92 ("tcp: allow again tcp_disconnect() when threads are waiting"), 6.6. A
reader is asked all the same: the control shows what this kernel does without a map.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = (
    "A socket that leaves a map loses no byte, leaves no thread waiting, and works as if it had never been in one."
)

WARM_UP: Final = frozenset(
    (
        "delete-sockhash-tcp4-both-none",
        "delete-sockhash-udp6-verdict-pollers",
        "delete-sockmap-unix_stream-both-redirected",
        "delete-sockmap-vsock_stream-both-passed",
    )
)
"""Cases with threads, fences and data, of four kinds."""

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
"""The states of the data for each part."""
OUT: Final = ("close", "delete", "destroy", "disconnect", "replace")
"""Ways out that are asked for all parts and states."""
SHUT: Final = (
    "shut_rd", "shut_wr", "shut_both", "peer_shut_rd", "peer_shut_wr", "peer_shut_both", "peer_close", "peer_reset",
)  # fmt: skip
"""Changes of the connection."""
LAST: Final = ("duplicate", "dup2", "in_flight", "collected", "stolen", "killed", "namespace", "close_both")
"""Other ways to close a socket."""
OTHERS: Final = ("itself", "detach", "link", "swap", "delete_one", "destroy_one", "unpin", "held")
"""Changes of the map or its programs."""
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
"""Names by which rows mean several ways out, or several states of the data.

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
"""The states asked for changes that are not ways out."""
_RESET: Final = ("tcp6", "unix_stream")
_MUTE: Final = ("shut_wr", "shut_both", "peer_shut_rd", "peer_shut_both", "peer_close", "peer_reset")
_DEAF: Final = ("peer_shut_rd", "peer_shut_both")
_ONE_OF_TWINS: Final = ("tcp4", "udp6", "unix_stream", "unix_dgram", "vsock_stream", "vsock_seqpacket")
_OTHER_TWINS: Final = ("tcp6", "udp4", *_ONE_OF_TWINS[2:])
_MAP: Final = {kind: MAPS[number % len(MAPS)] for number, kind in enumerate(KINDS)}
"""The type of map for a kind, in cases where the type does not matter."""


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
    """Whether the combination is possible."""
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
    # A sender counts as stuck only after TCP's timers have run.
    deadline = 10.0 if data in ("backlog", "sender") else 1.0
    return Case("teardown", name, "conformance.groups.teardown.guest.scenario:run", params, deadline)
