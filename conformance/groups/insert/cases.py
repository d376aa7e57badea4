# SPDX-License-Identifier: GPL-2.0-only
"""The insertion cases: which sockets a map accepts, and the answer to every bpf(2) command on a map."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from conformance.groups.kinds import MAPS
from conformance.model import Case

PROMISE: Final = (
    "A map accepts the sockets this kernel version allows, and refuses everything else with the documented errno."
)

_ENDS: Final = (
    "fresh", "bound", "listening", "established", "accepted", "unread", "shut_rd", "shut_wr", "shut_both",
    "peer_shut_wr", "peer_closed", "refused",
)  # fmt: skip
_TCP: Final = (
    *_ENDS, "unlistened", "reset", "disconnected", "syn_sent", "syn_recv", "fin_wait1", "closing", "last_ack",
    "time_wait", "closed_second", "to_itself",
)  # fmt: skip
_UDP: Final = (
    "fresh", "bound", "connected", "established", "unread", "shut_both", "peer_closed", "refused", "disconnected",
    "bound_disconnected", "to_itself",
)  # fmt: skip
_UNIX_DGRAM: Final = (
    "fresh", "bound", "connected", "established", "unread", "shut_both", "peer_closed", "refused", "disconnected",
    "to_itself",
)  # fmt: skip
_FEW: Final = ("fresh", "bound", "listening", "established", "accepted")

STATES: Final = {
    "tcp4": _TCP,
    "tcp6": _TCP,
    "udp4": _UDP,
    "udp6": _UDP,
    "unix_stream": (*_ENDS, "connected", "unlistened"),
    "unix_dgram": _UNIX_DGRAM,
    "vsock_stream": _ENDS,
    "vsock_seqpacket": _ENDS,
    "unix_seqpacket": _FEW,
    "vsock_dgram": ("fresh",),
    "mptcp4": (*_FEW, "fallback"),
    "mptcp6": (*_FEW, "fallback"),
    "sctp4": _FEW,
    "sctp6": _FEW,
    "sctp_seqpacket": ("fresh", "bound", "listening"),
    "raw4": ("fresh", "bound", "connected"),
    "raw6": ("fresh", "bound", "connected"),
    "ping4": ("fresh", "bound", "connected"),
    "ping6": ("fresh", "bound", "connected"),
    "udplite4": ("fresh", "bound", "connected"),
    "udplite6": ("fresh", "bound", "connected"),
    "packet_raw": ("fresh", "bound"),
    "packet_dgram": ("fresh", "bound"),
    "netlink": ("fresh", "bound"),
    "kcm": ("fresh",),
    "smc": ("fresh", "bound", "listening", "fallback"),
    "tipc_stream": ("fresh",),
    "tipc_rdm": ("fresh",),
    "xdp": ("fresh",),
}
"""The kinds of sockets, the eight of the redirect matrix first, each with the states it can be in."""

NO_SOCKETS: Final = (
    "pipe", "file", "path", "path-socket", "map", "closed", "largest-int", "beyond-int", "minus-one",
    "socket-and-high-bits",
)  # fmt: skip

LAYERS: Final = {
    "tls-first": ("tcp4", "tcp6"),
    "tls-second": ("tcp4", "tcp6"),
    "kcm-first": ("tcp4", "tcp6"),
    "kcm-second": ("tcp4", "tcp6"),
    "sock-ops": ("tcp4", "tcp6", "mptcp4", "mptcp6"),
}
"""Other users of a socket, before or after its insertion, or another way to insert it."""

ABOUT: Final = (
    "key-sizes", "value-sizes", "entries", "creation-flags", "read-only", "write-only", "any", "noexist", "exist",
    "noexist-and-exist", "lock", "unknown-flag", "highest-flag", "flags-beyond-32-bits", "range", "full",
    "small-values", "one-slot", "one-slot-program", "many-slots", "many-maps", "replaced", "lookup", "delete",
    "next-key", "lookup-and-delete", "batch-lookup", "batch-lookup-and-delete", "batch-update", "batch-delete",
    "array-of-maps", "hash-of-maps", "frozen", "info", "by-id", "pinned", "wrong-map", "pointers", "order",
    "order-busy",
)  # fmt: skip
"""Topics of cases about a map."""

KEY_SIZES: Final = ("1", "2", "4", "8", "16", "40", "256", "511", "512")
"""Topics for a SOCKHASH only: keys with this many bytes."""

_SCENARIOS: Final = {
    "socket": "scenario:run",
    "descriptor": "scenario:descriptor",
    "layer": "scenario:layer",
    "map": "map:run",
}
"""The scenario of each question; rows match them by the parameter `question`."""


@cache
def insert_cases() -> tuple[Case, ...]:
    """List the insertion cases: sockets, other descriptors, sockets with a layer, maps."""
    return (*_sockets(), *_no_sockets(), *_layers(), *_maps())


def _sockets() -> Iterator[Case]:
    for kind, states in STATES.items():
        for map_ in MAPS:
            for state in states:
                yield _case("socket", f"{map_}-{kind}-{state}", map=map_, kind=kind, state=state)


def _no_sockets() -> Iterator[Case]:
    for map_ in MAPS:
        for what in NO_SOCKETS:
            yield _case("descriptor", f"{map_}-descriptor-{what}", map=map_, what=what)


def _layers() -> Iterator[Case]:
    for layer, kinds in LAYERS.items():
        for map_ in MAPS:
            for kind in kinds:
                yield _case("layer", f"{map_}-{kind}-{layer}", map=map_, kind=kind, layer=layer)


def _maps() -> Iterator[Case]:
    for map_ in MAPS:
        for about in ABOUT:
            yield _case("map", f"{map_}-map-{about}", map=map_, about=about)
    for size in KEY_SIZES:
        yield _case("map", f"sockhash-map-keys-of-{size}", map="sockhash", about=f"keys-of-{size}")


def _case(question: str, name: str, **params: str) -> Case:
    scenario = f"conformance.groups.insert.guest.{_SCENARIOS[question]}"
    return Case("insert", name, scenario, {"question": question, **params})
