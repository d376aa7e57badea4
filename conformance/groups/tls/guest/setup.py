# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one case with kernel TLS: a socket that enters a map, its peer, and a pair of sockets that decrypts.

The peer never decrypts: it receives the bytes on the wire. It sends them on, over a second connection, to a decoder, a
socket outside of maps that has the keys. So one message shows both what an eavesdropper reads and what a peer with TLS
reads. The peer encrypts if the socket in the map has keys to receive with.

The kernel has one table of functions for all TLS sockets. When a socket gets the protocol, and its own functions differ
from those that the table was built from, the kernel builds the table again. So the peer and the decoder get the
protocol before the socket in the map. The question `other-socket` asks what happens in the opposite order.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from bpf.guest import assemble as asm
from conformance.guestlib import fixture, grace, sockets, traffic
from conformance.guestlib.answers import Steps, attempt, outcome
from conformance.guestlib.fixture import Counting, Fixture, ImpossibleError, Map
from conformance.guestlib.quiesce import fences, renew_fences
from conformance.guestlib.traffic import Messages

NOTHING: Final = "nothing"
POPPED_AT, POPPED = 11, 4
"""Where the program `pop` removes bytes, and how many."""
CORKED: Final = 100
"""Bytes that the program `cork` waits for."""
_TCP_ULP: Final = 31
_SOL_TLS: Final = 282
_TLS_TX, _TLS_RX = 1, 2
_HEADER: Final = bytes((23, 3, 3))
"""The beginning of each record with data, by TLS 1.2."""
_POP, _CORK = 91, 62
"""Numbers of the helpers bpf_msg_pop_data() and bpf_msg_cork_bytes()."""
_LEAST: Final = 4
"""Any sequence of this many bytes occurs once in a stream."""
_BLOCK, _SAMPLES = 16, 64
"""Plain text is looked for on the wire in blocks of this many bytes, at this many places at most."""
_STRAY: Final = 200
"""How many bytes that are not of the stream to skip when looking for bytes that are."""
_GRACE: Final = 0.02
"""Seconds to wait for missing data after the kernel seems at rest."""
_PATIENCE: Final = 2.0

_OUTGOING: Final = struct.pack(">16384H", *range(16384))
_INCOMING: Final = struct.pack(">16384H", *range(32768, 49152))


def _keys(secret: int) -> bytes:
    """Return a struct tls12_crypto_info_aes_gcm_128: version, cipher, iv, key, salt, number of the first record."""
    return struct.pack("=HH8s16s4sQ", 0x0303, 51, bytes(8), bytes([secret]) * 16, bytes([secret]) * 4, 0)


_OUT_KEYS, _IN_KEYS = _keys(1), _keys(2)


def _pop() -> bytes:
    arguments = asm.move(asm.R1, asm.R6) + asm.put(asm.R2, POPPED_AT) + asm.put(asm.R3, POPPED) + asm.put(asm.R4, 0)
    return arguments + asm.call(_POP)


def _cork() -> bytes:
    return asm.move(asm.R1, asm.R6) + asm.put(asm.R2, CORKED) + asm.call(_CORK)


_PROGRAMS: Final[dict[str, tuple[Callable[[], Counting], ...]]] = {
    "none": (),
    "msg": (partial(fixture.counting, "sk_msg_verdict", "tls"),),
    "pop": (lambda: fixture.counting("sk_msg_verdict", "tls", before=_pop()),),
    "cork": (lambda: fixture.counting("sk_msg_verdict", "tls", before=_cork()),),
    "drop": (partial(fixture.counting, "sk_msg_verdict", "tls", answer=0),),
    "verdict": (partial(fixture.counting, "sk_skb_verdict", "tls"),),
    "parser": (
        partial(fixture.counting, "sk_skb_stream_parser", "tls"),
        partial(fixture.counting, "sk_skb_stream_verdict", "tls"),
    ),
}
_ATTACHED: Final = {
    "verdict": ("sk_skb_verdict",),
    "parser": ("sk_skb_stream_parser", "sk_skb_stream_verdict"),
}


class TlsSetup:
    """The sockets of a case, or of its control, whose sockets are never in a map."""

    def __init__(self, params: Mapping[str, str], steps: Steps, owned: Fixture, *, mapped: bool) -> None:
        self.owned, self.steps, self.mapped = owned, steps, mapped
        self.program, self.kind = params["program"], params["kind"]
        self._keys, self._map_type = params["keys"], params["map"]
        self._programs: list[Counting] = []
        self._sealed = False
        self._counts = {"out": 0, "in": 0}
        self._sent = self._wire = b""
        self._read: dict[str, Messages] = {"decoder": [], "ours": []}
        with fixture.possible(steps):
            self.ours, self.peer = owned.pair(self.kind)
            self._relay, self._decoder = owned.pair(self.kind)
            for each in (self.peer, self._decoder):
                give_protocol(each)
            self._decoder.setsockopt(_SOL_TLS, _TLS_RX, _OUT_KEYS)
        self.cookie = sockets.cookie_of(self.ours)

    def insert(self) -> None:
        """Insert the socket into a map with the program; the case ends here if the kernel refuses the socket."""
        if not self.mapped:
            return
        self.home: Map = self.owned.map(self._map_type)
        types = _ATTACHED.get(self.program, ("sk_msg_verdict",))
        for attach_type, make in zip(types, _PROGRAMS[self.program], strict=False):
            self._programs.append(make())
            fixture.attach(self.home, self._programs[-1].descriptor, attach_type)
        self.steps["insert"] = self.home.insert(self.ours)
        if self.steps["insert"] != "ok":
            raise ImpossibleError

    def switch(self) -> None:
        """Give the socket the TLS protocol and keys, and give the peer the keys that the socket decrypts with."""
        self.steps["protocol"] = attempt(give_protocol, self.ours)
        if self._keys in ("both", "send"):
            self.steps["send-keys"] = attempt(self.ours.setsockopt, _SOL_TLS, _TLS_TX, _OUT_KEYS)
            self._sealed = self.steps["send-keys"] == "ok"
        if self._keys in ("both", "receive"):
            self.steps["receive-keys"] = attempt(self.ours.setsockopt, _SOL_TLS, _TLS_RX, _IN_KEYS)
            if self.steps["receive-keys"] == "ok":
                self.peer.setsockopt(_SOL_TLS, _TLS_TX, _IN_KEYS)

    def runs(self) -> int:
        """Return how often the program ran; of a parser and a verdict, the verdict."""
        return self._programs[-1].runs() if self._programs else 0

    def send(self, size: int, flags: int = 0) -> str:
        """Send bytes of the outgoing stream; return `"ok"`, the errno, or how many of them the kernel accepted."""
        self._sent = self._next("out", _OUTGOING, size)
        memory = bytearray(self._sent)
        answer = _counted(_sent(self.ours, memory, flags), size)
        # After send(2) the caller may reuse its buffer.
        memory[:] = bytes([255]) * size
        return answer

    def answer(self, size: int) -> str:
        """Make the peer send `size` bytes of the incoming stream."""
        return _counted(_sent(self.peer, self._next("in", _INCOMING, size), 0), size)

    def _next(self, way: str, stream: bytes, size: int) -> bytes:
        start = self._counts[way]
        self._counts[way] += size
        return stream[start : start + size]

    def outgoing(self, size: int, suffix: str = "") -> None:
        """Wait for `size` bytes; note what is on the wire, and which bytes a peer with TLS reads."""
        self._wait("decoder", size)
        wire, self._wire = self._wire, b""
        self.steps[f"wire{suffix}"] = _visible(wire, self._sent)
        self.steps[f"arrives{suffix}"] = describe_received(self._take("decoder"), _OUTGOING)

    def incoming(self, size: int, suffix: str = "") -> None:
        """Wait for `size` bytes, and note which bytes the socket reads."""
        self._wait("ours", size)
        self.steps[f"reads{suffix}"] = describe_received(self._take("ours"), _INCOMING)

    def _take(self, name: str) -> Messages:
        found, self._read[name] = self._read[name], []
        return found

    def _wait(self, name: str, size: int) -> None:
        limit = min(_GRACE, grace.limit())
        rest = traffic.settle(
            self._look,
            lambda: size - traffic.size_of(self._read[name]),
            lambda: limit,
            _PATIENCE,
            vsock=False,
            runs=self.runs,
        )
        if rest.waited:
            grace.gave_up(rest.waited, limit)
        if not rest.arrived:
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")

    def settle(self) -> None:
        """Wait until data in flight has arrived; read nothing."""
        if not fences().backlog():
            renew_fences()
            raise TimeoutError("the kernel's queues do not move")

    def _look(self) -> None:
        if self.ours.fileno() >= 0:
            traffic.add(self._read["ours"], traffic.take_all(self.ours, stream=True))
        found = traffic.take_all(self.peer, stream=True)
        data = b"".join(each for each in found if isinstance(each, bytes))
        self._wire += data
        if not self._sealed:
            traffic.add(self._read["decoder"], found)
            return
        if data:
            self._relay.sendall(data)
        decoded = traffic.take_all(self._decoder, stream=True)
        traffic.add(self._read["decoder"], decoded + [each for each in found if isinstance(each, str)])


def give_protocol(end: socket.socket) -> None:
    """Give a socket the TLS protocol."""
    end.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")


def _sent(end: socket.socket, data: bytes | bytearray, flags: int) -> int | str:
    return outcome(end.send, data, flags | socket.MSG_DONTWAIT)


def _counted(answer: int | str, size: int) -> str:
    return answer if isinstance(answer, str) else "ok" if answer == size else f"{answer} of {size}"


def _visible(wire: bytes, sent: bytes) -> str:
    """Say what is on the wire: `plain text`, `cipher text`, both, `other bytes` or `"nothing"`."""
    apart = max(_BLOCK, len(sent) // _SAMPLES)
    plain = any(sent[start : start + _BLOCK] in wire for start in range(0, len(sent) - _BLOCK, apart))
    seen = [*(["plain text"] if plain else []), *(["cipher text"] if wire.startswith(_HEADER) else [])]
    return " and ".join(seen) or ("other bytes" if wire else NOTHING)


def describe_received(messages: Messages, stream: bytes) -> str:
    """Name the received bytes of a stream, in order, as `FIRST-END`, then the EOF and errors among them."""
    data = b"".join(each for each in messages if isinstance(each, bytes))
    parts = []
    while data:
        place, length = stream.find(data[:_LEAST]), len(data)
        if place < 0:
            places = range(1, min(length - _LEAST + 1, _STRAY))
            length = next((n for n in places if data[n : n + _LEAST] in stream), length)
            parts.append(f"{length} unknown bytes")
        else:
            while not stream.startswith(data[:length], place):
                length -= 1
            parts.append(f"{place}-{place + length}")
        data = data[length:]
    ends = dict.fromkeys(each.strip("!") for each in messages if isinstance(each, str))
    return " ".join([*parts, *ends]) or NOTHING
