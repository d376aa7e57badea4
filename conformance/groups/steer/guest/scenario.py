# SPDX-License-Identifier: GPL-2.0-only
"""Use a SOCKMAP or SOCKHASH as a steering table: let sk_lookup or reuseport programs pick a socket from it.

Two sockets may get what arrives at a port: `native`, which is bound to it or which the kernel picks from the reuseport
group, and `chosen`, which the map holds in the beginning. The Observation is `{"steps": {name: answer}}`. A step named
`to...` says who got a connection or a datagram: `"native"`, `"chosen"`, `"either"` where the kernel chooses at random,
`"nobody"`, or the errno the sender got; `program...` what the helper returned to the program: `"ok"`, errno or
`"not called"`.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping
from typing import Final

from bpf.guest import links
from bpf.guest.contexts import CONTEXTS
from conformance.guestlib import child, pidfd, sockets
from conformance.guestlib.answers import Steps, by_name, name_of
from conformance.guestlib.fixture import Fixture, Orders, scenario
from conformance.guestlib.quiesce import fences

_SO_ATTACH_REUSEPORT_EBPF = 52
_PATIENCE = 2.0
_ANOTHER_FAMILY = {"tcp4": "tcp6", "tcp6": "tcp4", "udp4": "udp6", "udp6": "udp4"}
_ANOTHER_PROTOCOL = {"tcp4": "udp4", "tcp6": "udp6", "udp4": "tcp4", "udp6": "tcp6"}


class SteeringMap:
    """A map, the program that selects from it, and the sockets to select."""

    def __init__(self, params: Mapping[str, str], steps: Steps, fixture: Fixture) -> None:
        self.kind, self.hook, self.steps, self.fixture = params["kind"], params["hook"], steps, fixture
        self.map = fixture.map(params["map"])
        self.orders = Orders(fixture, f"{self.hook}_steer", self.hook, {"table": self.map})
        grouped = self.hook == "sk_reuseport"
        self.native = self.open(self.kind, grouped=grouped)
        self.address = self.native.getsockname()
        self.chosen = self.open(self.kind, self.address if grouped else None, grouped=grouped)
        self.orders.give(port=self.address[1])
        self._attach()

    def open(self, kind: str, address: tuple[str, int] | None = None, *, grouped: bool = False) -> socket.socket:
        """Open a listener or a UDP socket, in a reuseport group if it is to share its address."""
        opened = self.fixture.enter_context(sockets.fresh(kind))
        if grouped:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(address or sockets.SORTS[kind][2])
        if sockets.connects(kind):
            opened.listen(8)
        return opened

    def insert(self, one: int | socket.socket, step: str = "insert") -> None:
        """Put a socket into the table."""
        self.steps[step] = self.map.insert(one)

    def send(self, suffix: str = "", *, refuse: bool = False, **more: socket.socket) -> None:
        """Connect, or send a datagram; return which socket got it and what the helper returned."""
        self.orders.give(refuse=int(refuse))
        with sockets.fresh(self.kind) as client:
            receiver = self._arrived(client, {"native": self.native, "chosen": self.chosen, **more})
        verdict = self.steps[f"program{suffix}"] = self.orders.answer()
        # If the program selects no socket of the group, the kernel does, by an unpredictable hash of ports.
        both = self.hook == "sk_reuseport" and self.chosen.fileno() >= 0
        by_hash = both and verdict != "ok" and receiver in ("native", "chosen")
        self.steps[f"to{suffix}"] = "either" if by_hash else receiver

    def _arrived(self, client: socket.socket, receivers: dict[str, socket.socket]) -> str:
        try:
            client.connect(self.address)
            if not sockets.connects(self.kind):
                client.send(b"steered")
                fences().backlog()
                # A datagram without a receiver comes back as an error.
                client.send(b"")
        except OSError as error:
            return name_of(error)
        ready, _, _ = select.select([each for each in receivers.values() if each.fileno() >= 0], [], [], _PATIENCE)
        for each in ready:
            if sockets.connects(self.kind):
                each.accept()[0].close()
            else:
                each.recv(16)
                fences().backlog()
                each.recv(16, socket.MSG_DONTWAIT)
        return ", ".join(name for name, each in receivers.items() if each in ready) or "nobody"

    def _attach(self) -> None:
        if self.hook == "sk_reuseport":
            self.native.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_EBPF, self.orders.program)
            return
        namespace = self.fixture.keep(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        self.fixture.keep(links.create(namespace, self.orders.program, CONTEXTS["sk_lookup"].attach_type))


def _plain(table: SteeringMap) -> None:
    """Steer to a socket in the table, to another one put in its place, and by an empty slot."""
    table.send("-empty")
    table.send("-refused", refuse=True)
    table.insert(table.chosen)
    table.send()
    table.insert(table.native, "insert-another")
    table.send("-another")
    table.insert(table.chosen, "insert-back")
    table.send("-back")


def _removed(table: SteeringMap) -> None:
    """Remove the socket from the table: by delete, then by closing it."""
    table.insert(table.chosen)
    table.send()
    table.steps["delete"] = table.map.delete()
    table.send("-deleted")
    table.send("-deleted-refused", refuse=True)
    table.insert(table.chosen, "insert-again")
    table.send("-again")
    table.chosen.close()
    table.send("-closed")


def _connected(table: SteeringMap) -> None:
    """Put a connected socket into the table."""
    one, _ = table.fixture.pair(table.kind)
    table.insert(one)
    table.send(refuse=True, connected=one)
    table.send("-passed", connected=one)


def _foreign(table: SteeringMap) -> None:
    """Put sockets into the table that cannot get what arrives: of another family, protocol, or group."""
    grouped = table.hook == "sk_reuseport"
    for name, kind, shares in (
        ("family", _ANOTHER_FAMILY[table.kind], grouped),
        ("protocol", _ANOTHER_PROTOCOL[table.kind], grouped),
        ("alone", table.kind, False),
        ("group", table.kind, True),
    ):
        strange = table.open(kind, grouped=shares)
        table.insert(strange, f"insert-{name}")
        table.send(f"-{name}", refuse=True, **({name: strange} if kind == table.kind else {}))


def _stolen(table: SteeringMap) -> None:
    """Select a listener taken from another process by pidfd_getfd(2); its owner accepts."""
    owner = child.for_case(table.fixture)
    owner.own("listen", table.kind)
    stolen = pidfd.steal_from(owner.pid, owner.number)
    table.insert(stolen)
    os.close(stolen)
    with sockets.fresh(table.kind) as client:
        client.connect(table.address)
        owner.own("accept")
        table.steps["program"] = table.orders.answer()
        client.send(b"steered")
        fences().backlog()
        table.steps["owner"] = "data" if owner.receive() == [b"steered"] else "nothing"


VARIANTS: Final = by_name(_plain, _removed, _connected, _foreign, _stolen)


@scenario
def run(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Steer by `hook`, as `variant` says."""
    VARIANTS[params["variant"]](SteeringMap(params, steps, fixture))
