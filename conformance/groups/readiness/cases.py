# SPDX-License-Identifier: GPL-2.0-only
"""The readiness cases: when poll(2) reports a socket in a map, what FIONREAD counts, and what recv(2) returns.

A case combines a question, a reader (`kind`) and the path of the data (`way`): native data for a socket in a map
without programs (`none`) or with an SK_MSG program (`msg`), data through a verdict that passes or drops (`passed`,
`dropped`), data through a parser and a verdict that passes (`parser`), or data that a verdict of another socket of the
same kind redirects locally (`redirected`). Each case compares its reader with a socket that was never in a map.

Where the kernel runs the same code for several combinations, one case stands for all of them:

- poll(2), select(2), level-triggered and edge-triggered epoll: each case calls all four.
- All waiting data, and the rest after a partial read: one case calls FIONREAD before, between and after.
- IPv4 and IPv6, and the two map types: a question uses one of each, and the next question the other.
- O_NONBLOCK: the kernel turns it into MSG_DONTWAIT, which nearly every read has.

Left out, because no kernel allows it: redirects to VSOCK, SK_MSG programs and parsers on other kinds than TCP.

Left to teardown: a thread in recv(2) on VSOCK, which holds the socket lock, and sockets that leave the map while data
waits.

Left out, because no promise decides it: a verdict that drops data which arrived before the insertion.

docs/socket-options.md lists every flag and every option, and the case that asks about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = "A socket in a map is readable exactly when a read returns data, and FIONREAD counts that data."

WARM_UP: Final = frozenset(
    (
        "count-after-sockmap-udp4-redirected",
        "readable-plain-sockmap-vsock_stream-passed",
        "option-peek-sockhash-unix_dgram-redirected",
        "reader-after-sockhash-tcp6-passed",
    )
)
"""Four kinds of sockets, with a thread, fences, epoll and redirects."""

_TWINS: Final = (("tcp4", "udp6"), ("tcp6", "udp4"))
_OTHERS: Final = ("unix_stream", "unix_dgram", "vsock_stream", "vsock_seqpacket")
_MAP: Final = {kind: MAPS[number % len(MAPS)] for number, kind in enumerate(KINDS)}
"""The map type of each kind."""
_STREAMS: Final = ("tcp", "unix_stream", "vsock_stream")
_INTERNET: Final = ("tcp", "udp")
_DATAGRAMS: Final = ("udp", "unix_dgram", "vsock_seqpacket")
_UNIX: Final = ("unix_stream", "unix_dgram")
_ALL: Final = (*_INTERNET, *_OTHERS)
_NATIVE: Final = ("none", "msg")
_READING: Final = ("passed", "redirected")
_WAYS: Final = ("none", "msg", "passed", "dropped", "parser", "redirected")

QUESTIONS: Final[dict[tuple[str, str], tuple[Sequence[str], Sequence[str]]]] = {
    ("count", "before"): (_ALL, ("none", "msg", "passed", "parser")),
    ("count", "after"): (_ALL, _WAYS),
    ("count", "both"): (_ALL, ("passed", "parser", "redirected")),
    ("readable", "plain"): (_ALL, _WAYS),
    ("early", "recv"): (_ALL, ("passed", "parser")),
    ("early", "poll"): (_ALL, ("none", "passed", "parser")),
    ("reader", "before"): ((*_INTERNET, *_UNIX), ("none", "passed", "parser", "redirected")),
    ("reader", "after"): ((*_INTERNET, *_UNIX), ("none", "passed", "dropped", "parser", "redirected")),
    ("writable", "plain"): (("tcp", *_UNIX, "vsock_stream"), (*_NATIVE, "passed")),
    ("writable", "sndtimeo"): (("tcp", "unix_stream"), _NATIVE),
    ("writable", "notsent_lowat"): (("tcp",), _NATIVE),
}
"""The kinds and the ways of each question."""
OPTIONS: Final[dict[str, tuple[Sequence[str], Sequence[str]]]] = {
    "busy_poll": (_INTERNET, _READING),
    "eor": (("vsock_seqpacket",), _READING),
    "errqueue": (_INTERNET, (*_NATIVE, "passed")),
    "gro": (("udp",), _READING),
    "inq": (("tcp",), _READING),
    "lowat": (_STREAMS, _READING),
    "more": (_INTERNET, _NATIVE),
    "peek": (_ALL, _READING),
    "peek_off": ((*_INTERNET, *_UNIX), _READING),
    "rcvtimeo": ((*_INTERNET, "unix_dgram", "vsock_stream"), _READING),
    "recverr": (("udp4",), ("none", "passed")),
    "segment": (("udp",), _READING),
    "sigio": (("tcp", "unix_dgram"), _READING),
    "sigpipe": (("tcp", "unix_stream"), _NATIVE),
    "splice": (("tcp", "unix_stream"), _READING),
    "trunc": (("tcp", *_DATAGRAMS), _READING),
    "waitall": (("tcp", "unix_stream"), _READING),
}
"""The kinds and the ways of each flag and each option."""


@cache
def readiness_cases() -> tuple[Case, ...]:
    """List the readiness cases."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    questions = {**QUESTIONS, **{("option", name): asked for name, asked in OPTIONS.items()}}
    for number, ((ask, what), (kinds, ways)) in enumerate(questions.items()):
        tcp, udp = _TWINS[number % len(_TWINS)]
        for kind in kinds:
            twin = {"tcp": tcp, "udp": udp}.get(kind, kind)
            for way in ways:
                if possible(twin, way):
                    yield _case(ask, what, twin, way)


def possible(kind: str, way: str) -> bool:
    """Whether a kernel can deliver data to this kind of socket by this way."""
    if way in ("msg", "parser"):
        return kind.startswith("tcp")
    return not (way == "redirected" and kind.startswith("vsock"))


def _case(ask: str, what: str, kind: str, way: str) -> Case:
    params = {"ask": ask, "what": what, "map": _MAP[kind], "kind": kind, "way": way}
    name = f"{ask}-{what}-{_MAP[kind]}-{kind}-{way}"
    return Case("readiness", name, "conformance.groups.readiness.guest.scenario:run", params, 1.0)
