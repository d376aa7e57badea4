# SPDX-License-Identifier: GPL-2.0-only
"""The pressure cases: more data than is read, a target that is dead, many sockets, a full map.

Ways of the data: a verdict passes it (`passed`); an SK_MSG program redirects it to the receive queue of a socket
(`msg_local`) or out of a socket (`msg_egress`); a verdict does (`skb_local`, `skb_egress`).

Folded, because the kernel runs the same code: IPv4 and IPv6, and the two map types, of which a question asks one each.

Left out: UDP as a sender that is held, which it never is; redirects to the receive queue of VSOCK, which no kernel
allows; SK_MSG programs of other kinds than TCP, which never run. More than 512 KiB on one socket: what takes that takes
anything. A target that is not in its map any more is a case of teardown, step `redirect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = (
    "A sender through a map is held when nobody reads and learns when nobody can, and memory that data took comes back."
)

WARM_UP: Final = frozenset(("charged-sockmap-tcp4-msg_local", "charged-sockhash-unix_dgram-skb_local"))
"""Cases with both programs and fences."""

_MAP: Final = {kind: MAPS[number % len(MAPS)] for number, kind in enumerate(KINDS)}
_LOCAL: Final = ("passed", "msg_local", "skb_local")
_EVERY: Final = (*_LOCAL, "msg_egress", "skb_egress")
_STREAMS: Final = ("unix_stream", "vsock_stream")
_UNIX: Final = ("unix_stream", "unix_dgram")

QUESTIONS: Final[dict[str, tuple[Sequence[str], Sequence[str]]]] = {
    "held": (("tcp4", *_UNIX, "vsock_stream"), _EVERY),
    "charged": (("tcp4", "tcp6", "udp4", "udp6", *_UNIX, "vsock_stream"), _LOCAL),
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
    """Whether data can go that way."""
    if way.startswith("msg"):
        return kind.startswith("tcp")
    return not (way == "skb_local" and kind.startswith("vsock"))


def _case(ask: str, kind: str, way: str) -> Case:
    params = {"ask": ask, "map": _MAP[kind], "kind": kind, "way": way}
    name = f"{ask}-{_MAP[kind]}-{kind}-{way}"
    return Case("pressure", name, "conformance.groups.pressure.guest.scenario:run", params, 4.0)
