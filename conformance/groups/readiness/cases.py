# SPDX-License-Identifier: GPL-2.0-only
"""The readiness cases: when a socket in a map is ready, and what a read then returns.

Each question is asked of a reader and of each way on which data comes to it: natively to a socket that is in a map
without programs (`none`) or with an SK_MSG program (`msg`), through a verdict that passes or drops (`passed`,
`dropped`), through a parser and a verdict that passes (`parser`), or redirected locally from another socket of the
same kind (`redirected`). Every case compares with a socket that was never in a map.

Some combinations are folded into one case, because the kernel runs the same code for them:

- poll(2), select(2), epoll by level and by edge: one case looks by all four;
- all that waits, and what a partial read leaves: one case asks FIONREAD before, between and after;
- IPv4 and IPv6, and the two map types: a question asks one of the twins, in one type of map; the next question asks the
  other;
- MSG_DONTWAIT, which nearly every read has, and O_NONBLOCK, which the kernel turns into it.

Left out, because it is impossible: data redirected to VSOCK (no kernel allows it), SK_MSG programs and parsers for
other kinds than TCP.

Asked by teardown: a thread in recv(2) on VSOCK, which holds the socket lock, and sockets that leave the map while data
waits.

Left out, because no promise says what is right: data that waited before the insertion, and a verdict that drops.

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
        "events-three-sockmap-vsock_stream-passed",
        "option-peek-sockhash-unix_dgram-redirected",
        "reader-after-sockhash-tcp6-passed",
    )
)
"""Cases with a thread, fences, epoll and every way, of four kinds."""

_TWINS: Final = (("tcp4", "udp6"), ("tcp6", "udp4"))
_OTHERS: Final = ("unix_stream", "unix_dgram", "vsock_stream", "vsock_seqpacket")
_MAP: Final = {kind: MAPS[number % len(MAPS)] for number, kind in enumerate(KINDS)}
"""The type of map for a kind."""
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
    ("events", "three"): (_ALL, _WAYS),
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
    "timestamp": (("udp", "unix_dgram"), _READING),
    "trunc": (("tcp", *_DATAGRAMS), _READING),
    "waitall": (("tcp", "unix_stream"), _READING),
}
"""The same of each flag and option."""


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
    """Whether data can come to a socket of a kind on a way."""
    if way in ("msg", "parser"):
        return kind.startswith("tcp")
    return not (way == "redirected" and kind.startswith("vsock"))


def _case(ask: str, what: str, kind: str, way: str) -> Case:
    params = {"ask": ask, "what": what, "map": _MAP[kind], "kind": kind, "way": way}
    name = f"{ask}-{what}-{_MAP[kind]}-{kind}-{way}"
    return Case("readiness", name, "conformance.groups.readiness.guest.scenario:run", params, 1.0)
