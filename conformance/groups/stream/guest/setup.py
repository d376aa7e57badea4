# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one stream case: pairs of sockets, a map with a program, a map of targets, and the sent messages.

The socket `source` is in the map with the program. An SK_MSG program runs on data that `source` sends, a verdict on
data that its peer `source_peer` sends. The program redirects to `target`. Before each message the scenario writes into
an array map which verdict the program returns.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Mapping
from enum import IntEnum
from functools import partial
from typing import Final

from bpf.guest import syscall
from conformance.groups.stream.guest.messages import message, named
from conformance.guestlib import fixture, sockets, traffic
from conformance.guestlib.answers import Steps, outcome
from conformance.guestlib.fixture import Fixture, Map
from conformance.guestlib.quiesce import fences, renew_fences
from conformance.guestlib.traffic import Messages

SIZE: Final = 100
"""Bytes of a message, unless its size matters."""
TARGET, OTHER, LISTENER, EMPTY = range(4)
"""Slots of the map of targets; the last stays empty."""
PATIENCE: Final = 2.0
"""Seconds after which sent data must have arrived, although fences or TCP still delay it."""
_GRACE: Final = 0.02
"""Seconds to poll for missing data after the fences have passed; complete data ends the wait at once.

Only a kernel that loses data waits for all of them: that nothing arrives within this time is then the answer.
"""
_REST: Final = 0.3
"""The same when a part of the data has arrived: the kernel's worker sends in pieces, and retries after a jiffy."""
_FLAGS: Final = {"local": syscall.F_INGRESS, "egress": 0}
_ORDER: Final = struct.Struct("=4I")
"""The part of `struct answer` in bpf/programs/answer.h that user space writes: verdict, key, flags, turns."""
_RUNS: Final = struct.Struct("=Q")


class Say(IntEnum):
    """What the program returns: `enum answers` of bpf/programs/answer.h."""

    DROP = 0
    PASS = 1
    HELPER = 2
    IGNORE = 3


class Program:
    """The program of a case, and the array map that tells it its verdict."""

    def __init__(self, owned: Fixture, kind: str, map_type: str, targets: int) -> None:
        name = f"sk_{'msg' if kind == 'msg' else 'skb'}_answer_{map_type.removeprefix('sock')}"
        answer = owned.keep(syscall.create_map(*fixture.get_program(name).maps["answer"]))
        self._memory = owned.enter_context(mmap.mmap(answer, mmap.PAGESIZE))
        self.descriptor = owned.load(name, {"answer": answer, "targets": targets})

    def say(self, what: Say, key: int, mode: str, turns: int) -> None:
        """Set the verdict for the next messages."""
        _ORDER.pack_into(self._memory, 0, what, key, _FLAGS[mode], turns)

    def runs(self) -> int:
        """Return how often the program has run."""
        return int(_RUNS.unpack_from(self._memory, _ORDER.size)[0])


class StreamSetup:
    """The sockets, maps and program of one case, which its fixture owns."""

    def __init__(self, owned: Fixture, params: Mapping[str, str], steps: Steps, *, mapped: bool = True) -> None:
        self.fixture, self.steps, self.mapped = owned, steps, mapped
        """`mapped` is false for a control, whose sockets are in no map."""
        self.kind = params["program"]
        """`msg`, `verdict` or `parser`."""
        self._map_type = params["map"]
        self.ends: dict[str, socket.socket] = {}
        self._kinds: dict[str, str] = {}
        self._parts: dict[str, bytes] = {}
        self._homes: list[tuple[Map, int]] = []
        self.pair("source", params["kind"])

    @property
    def sends(self) -> str:
        """The socket whose sent data the program runs on."""
        return "source" if self.kind == "msg" else "source_peer"

    @property
    def receives(self) -> str:
        """The socket that receives passed data."""
        return "source_peer" if self.kind == "msg" else "source"

    def pair(self, name: str, kind: str) -> None:
        """Make two connected sockets, `name` and its peer."""
        with fixture.possible(self.steps):
            self.ends[name], self.ends[f"{name}_peer"] = self.fixture.pair(kind)
        self._kinds |= {name: kind, f"{name}_peer": kind}

    def make_maps(self, parser: str = "sk_skb_parser") -> None:
        """Create the map with the program and the map of targets; a control has neither."""
        if not self.mapped:
            return
        self.sources, self.targets = self.fixture.map(self._map_type), self.fixture.map(self._map_type)
        self.program = Program(self.fixture, self.kind, self._map_type, self.targets)
        if self.kind == "msg":
            syscall.attach(self.sources, self.program.descriptor, "sk_msg_verdict")
        elif self.kind == "parser":
            syscall.attach(self.sources, self.fixture.load(parser, {}), "sk_skb_stream_parser")
            syscall.attach(self.sources, self.program.descriptor, "sk_skb_stream_verdict")
        else:
            fixture.attach(self.sources, self.program.descriptor)

    def say(self, what: Say, key: int = TARGET, mode: str = "egress", turns: int = 0) -> None:
        """Set the verdict for the next messages; a redirect goes to the slot `key`, or to `turns` slots in turn."""
        if self.mapped:
            self.program.say(what, key, mode, turns)

    def insert_targets(self, keys: Mapping[str, int], *, verdict: bool = False) -> bool:
        """Insert sockets by name into the map of targets; `verdict` attaches a verdict to it that passes everything."""
        if self.mapped and verdict:
            fixture.attach(self.targets, fixture.counting("sk_skb_verdict", "first").descriptor)
        return not self.mapped or self._insert(self.targets, keys)

    def insert_sources(self, *names: str) -> bool:
        """Insert sockets by name into the map with the program."""
        return not self.mapped or self._insert(self.sources, {name: key for key, name in enumerate(names)})

    def leave(self) -> None:
        """Delete every socket from its map; the step `leave` is the first error, or `"ok"`."""
        self.steps["leave"] = "ok"
        for home, key in self._homes if self.mapped else ():
            answer = home.delete(key)
            self.steps["leave"] = answer if self.steps["leave"] == "ok" else self.steps["leave"]

    def _insert(self, into: Map, keys: Mapping[str, int]) -> bool:
        """Insert; the step `insert` is the first error, or `"ok"`."""
        for name, key in keys.items():
            self.steps["insert"] = into.insert(self.ends[name], key)
            if self.steps["insert"] != "ok":
                return False
            self._homes.append((into, key))
        return True

    def send(self, name: str, through: str = "", size: int = SIZE) -> str:
        """Send a message and remember its name; `through` is another sender than `sends`. `"ok"`, or the errno."""
        data = message(size)
        answer = traffic.send(self.ends[through or self.sends], data)
        self._parts |= {name: data} if answer == "ok" else {}
        return answer

    def know(self, parts: Mapping[str, bytes]) -> None:
        """Remember the names of messages that `send_raw` sends in pieces."""
        self._parts |= parts

    def send_raw(self, data: bytes) -> None:
        """Send bytes on which the program runs."""
        self.ends[self.sends].send(data, socket.MSG_DONTWAIT)

    def pass_on(self, name: str, reader: str, through: str = "", size: int = SIZE, limit: int = 0) -> None:
        """Send a message, and read; the step `name` has the received messages, or the errno of send(2)."""
        answer = self.send(name, through, size)
        self.settle()
        self.read({name: reader}, name, limit=limit)
        if answer != "ok":
            self.steps[name] = answer

    def settle(self) -> None:
        """Wait until the program has run on all sent data; TimeoutError if a fence does not return."""
        if not fences().round(vsock=self._vsock()):
            self._give_up()

    def read(self, readers: Mapping[str, str], *expected: str, limit: int = 0) -> None:
        """Read sockets until the `expected` messages have arrived, or the kernel is at rest without them.

        `readers` has the socket of each step. The step lists the messages that its socket received, in order, with ends
        and errors. `limit` is the number of bytes of the first recv(2); 0 is no limit.
        """
        found: dict[str, Messages] = {name: [] for name in readers.values()}
        size = sum(len(self._parts.get(name, b"")) for name in expected)
        drains = {name: self._drain(name) for name in found}
        for name in found if limit else ():
            first = outcome(self.ends[name].recv, limit, socket.MSG_DONTWAIT)
            found[name] += [first] if isinstance(first, bytes) else []

        def look() -> None:
            for name, drain in drains.items():
                traffic.add(found[name], drain())

        def missing() -> int:
            return size - sum(map(traffic.size_of, found.values()))

        rest = traffic.settle(
            look,
            missing,
            lambda: _REST if 0 < missing() < size else _GRACE,
            PATIENCE,
            vsock=self._vsock(),
            busy=self._sending,
        )
        if not rest.arrived:
            self._give_up()
        self.steps |= {step: named(found[name], self._parts) for step, name in readers.items()}

    def natively(self, *names: str, suffix: str = "") -> None:
        """Send a message in each direction between these sockets and their peers: `"ok"`, or the received messages."""
        for name in names:
            for way, sender, receiver in (("in", f"{name}_peer", name), ("out", name, f"{name}_peer")):
                step = f"{name}-{way}{suffix}"
                self.steps[step] = self.send(step, sender)
                if self.steps[step] == "ok":
                    self.read({step: receiver}, step)
                    if self.steps[step] == step:
                        self.steps[step] = "ok"

    def _drain(self, name: str) -> partial[Messages]:
        return partial(traffic.take_all, self.ends[name], stream=sockets.connects(self._kinds[name]))

    def _sending(self) -> bool:
        """Whether a TCP socket has unsent data."""
        ends = (end for name, end in self.ends.items() if sockets.is_tcp(self._kinds.get(name, "")))
        return any(
            end.fileno() >= 0 and outcome(traffic.count, end, traffic.UNSENT) not in (0, "EINVAL") for end in ends
        )

    def _vsock(self) -> bool:
        return any(map(sockets.is_vsock, self._kinds.values()))

    def _give_up(self) -> None:
        renew_fences()
        raise TimeoutError("the kernel's queues do not move")
