# SPDX-License-Identifier: GPL-2.0-only
"""The pressure cases: unread data, a redirect target whose peer is closed, many sockets, a full map.

`way` is the path of the data: a verdict of the reader passes it (`passed`), an SK_MSG program redirects it to a
socket's receive queue (`msg_local`) or out of a socket (`msg_egress`), or a verdict of another socket redirects it in
the same two ways (`skb_local`, `skb_egress`).

For IPv4 and IPv6, and for the two map types, the kernel runs the same code: each question is asked with one of them.

Left out:

- UDP senders and full buffers: send(2) on UDP never blocks because of the reader;
- local redirects to VSOCK: no kernel allows them;
- SK_MSG programs on other kinds than TCP: they never run;
- more than 512 KiB on one socket: a socket that accepts so much without a reader has no limit;
- a target that has left its map: the step `redirect` of teardown asks that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = (
    "send(2) through a map blocks while the reader's buffer is full, and fails when the reader is gone. A read "
    "releases the memory of the data. A map accepts max_entries sockets."
)

WARM_UP: Final = frozenset(("rmem-sockmap-tcp4-msg_local", "rmem-sockhash-unix_dgram-skb_local"))
"""Cases with an SK_MSG program, a verdict and fences."""

_MAP: Final = {kind: MAPS[number % len(MAPS)] for number, kind in enumerate(KINDS)}
_LOCAL: Final = ("passed", "msg_local", "skb_local")
_EVERY: Final = (*_LOCAL, "msg_egress", "skb_egress")
_STREAMS: Final = ("unix_stream", "vsock_stream")
_UNIX: Final = ("unix_stream", "unix_dgram")

QUESTIONS: Final[dict[str, tuple[Sequence[str], Sequence[str]]]] = {
    "blocked": (("tcp4", *_UNIX, "vsock_stream"), _EVERY),
    "rmem": (("tcp4", "tcp6", "udp4", "udp6", *_UNIX, "vsock_stream"), _LOCAL),
    "deleted": (("tcp6", *_UNIX), ("msg_local", "skb_local")),
    "closed": (("tcp4", *_STREAMS, "unix_dgram"), _LOCAL),
    "dead": (("tcp6", *_UNIX), ("msg_egress", "skb_egress")),
    "many": (("tcp4", "tcp6", *_UNIX, "vsock_stream"), ("passed",)),
}
"""The kinds and the ways of each question."""


@cache
def pressure_cases() -> tuple[Case, ...]:
    """List the pressure cases."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for ask, (kinds, ways) in QUESTIONS.items():
        for kind in kinds:
            for way in ways:
                if possible(kind, way):
                    yield _case(ask, kind, way)


def possible(kind: str, way: str) -> bool:
    """Whether a kernel delivers data of this kind of socket by this way."""
    if way.startswith("msg"):
        return kind.startswith("tcp")
    return not (way == "skb_local" and kind.startswith("vsock"))


def _case(ask: str, kind: str, way: str) -> Case:
    params = {"ask": ask, "map": _MAP[kind], "kind": kind, "way": way}
    name = f"{ask}-{_MAP[kind]}-{kind}-{way}"
    return Case("pressure", name, "conformance.groups.pressure.guest.scenario:run", params, 4.0)
