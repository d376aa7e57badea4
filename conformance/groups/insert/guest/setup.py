# SPDX-License-Identifier: GPL-2.0-only
"""Maps of any shape and sockets for the cases about maps."""

from __future__ import annotations

import socket
import struct

from bpf.guest import maps, syscall
from conformance.guestlib.answers import outcome
from conformance.guestlib.fixture import Fixture, Map


class InsertSetup:
    """Maps and sockets as a case needs them, all closed at its end."""

    def __init__(self, kind: str, fixture: Fixture) -> None:
        self.type = syscall.MAP_TYPES[kind]
        self.hashed = kind == "sockhash"
        self.fixture = fixture

    def map(self, entries: int = 4, *, key_size: int = 4, value_size: int = 8, flags: int = 0) -> Map:
        """Create a map."""
        return self.opened(maps.create(self.type, key_size, value_size, entries, flags))

    def other_map(self) -> Map:
        """Create a map of the other type."""
        return self.fixture.map("sockmap" if self.hashed else "sockhash")

    def opened(self, descriptor: int) -> Map:
        """Have a map closed in the end."""
        return Map(self.fixture.keep(descriptor))

    def connected(self) -> socket.socket:
        """Make a connected TCP socket."""
        return self.fixture.pair("tcp4")[0]


def key(number: int) -> bytes:
    """Return a number as a key."""
    return number.to_bytes(4, "little")


def value(descriptor: int | socket.socket) -> bytes:
    """Return a descriptor as the value of a map with 8-byte values."""
    return struct.pack("=Q", descriptor if isinstance(descriptor, int) else descriptor.fileno())


def following(table: Map, number: int | None) -> str:
    """Return the next u32 key as text."""
    return str(outcome(table.following, number))
