# SPDX-License-Identifier: GPL-2.0-only
"""The kinds of sockets and maps that cases of all groups use; a kind of socket is one line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of socket, with the properties that cases and expectations use."""

    family: str
    """The name expectation rows may use for all kinds that behave alike."""
    stream: bool
    """Whether it is a byte stream; else messages have boundaries."""


KINDS: Final[Mapping[str, Kind]] = {
    "tcp4": Kind("tcp", stream=True),
    "tcp6": Kind("tcp", stream=True),
    "udp4": Kind("udp", stream=False),
    "udp6": Kind("udp", stream=False),
    "unix_stream": Kind("unix", stream=True),
    "unix_dgram": Kind("unix", stream=False),
    "vsock_stream": Kind("vsock", stream=True),
    "vsock_seqpacket": Kind("vsock", stream=False),
}


FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    family: tuple(name for name, kind in KINDS.items() if kind.family == family)
    for family in dict.fromkeys(kind.family for kind in KINDS.values())
}


MAPS: Final = ("sockmap", "sockhash")
