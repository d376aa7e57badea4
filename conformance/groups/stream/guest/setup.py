# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one stream case: pairs of sockets, a map with a program, a map of targets, and what was sent.

The socket `source` runs the program: an SK_MSG program for what it sends, a verdict for what its peer `source_peer`
sends. The program redirects to `target`. A scenario says before each message what the program is to answer.
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
from conformance.groups.stream.guest.messages import message, told
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
_GRACE: Final = 0.02
"""Seconds to look for missing data although the kernel seems at rest."""
_REST: Final = 0.3
"""The same where a part of it has come: a worker sends in pieces, and tries again a jiffy later if it has to."""
_FLAGS: Final = {"local": syscall.F_INGRESS, "egress": 0}
_ORDER: Final = struct.Struct("=4I")
"""The part of `struct answer` in bpf/programs/answer.h that user space writes."""
_RUNS: Final = struct.Struct("=Q")


class Say(IntEnum):
    """The possible answers of the program: `enum answers` of bpf/programs/answer.h."""

    DROP = 0
    PASS = 1
    HELPER = 2
    IGNORE = 3


class Program:
    """The program of a case, and its orders."""

    def __init__(self, owned: Fixture, kind: str, map_type: str, targets: int) -> None:
        name = f"sk_{'msg' if kind == 'msg' else 'skb'}_answer_{map_type.removeprefix('sock')}"
        answer = owned.keep(syscall.create_map(*fixture.get_program(name).maps["answer"]))
        self._memory = owned.enter_context(mmap.mmap(answer, mmap.PAGESIZE))
        self.descriptor = owned.load(name, {"answer": answer, "targets": targets})

    def say(self, what: Say, key: int, mode: str, turns: int) -> None:
        """Have it answer so from now on."""
        _ORDER.pack_into(self._memory, 0, what, key, _FLAGS[mode], turns)

    def runs(self) -> int:
        """Return how often it has run."""
        return int(_RUNS.unpack_from(self._memory, _ORDER.size)[0])


class StreamSetup:
    """The sockets, maps and program of one case, which its fixture owns."""

    def __init__(self, owned: Fixture, params: Mapping[str, str], steps: Steps, *, mapped: bool = True) -> None:
        self.fixture, self.steps, self.mapped = owned, steps, mapped
        """`mapped`: whether sockets are inserted into maps; not for a control."""
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
        """The socket that sends what the program sees."""
        return "source" if self.kind == "msg" else "source_peer"

    @property
    def receives(self) -> str:
        """The socket that receives what the program passes."""
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
        """Have the program answer so from now on; a redirect goes to a slot, or to several in turn."""
        if self.mapped:
            self.program.say(what, key, mode, turns)

    def insert_targets(self, keys: Mapping[str, int], *, verdict: bool = False) -> bool:
        """Insert sockets by name into the map of targets, where each runs a verdict that passes all, if so wanted."""
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
        """Send a message that gets a name, as a rule one that the program sees; `"ok"` or the errno."""
        data = message(size)
        answer = traffic.send(self.ends[through or self.sends], data)
        self._parts |= {name: data} if answer == "ok" else {}
        return answer

    def know(self, parts: Mapping[str, bytes]) -> None:
        """Give names to messages that are sent as pieces of something else."""
        self._parts |= parts

    def send_raw(self, data: bytes) -> None:
        """Send bytes that the program sees."""
        self.ends[self.sends].send(data, socket.MSG_DONTWAIT)

    def pass_on(self, name: str, reader: str, through: str = "", size: int = SIZE, limit: int = 0) -> None:
        """Send a message, and read it: the step of that name is what the reader received, or the errno of send(2)."""
        answer = self.send(name, through, size)
        self.settle()
        self.read({name: reader}, name, limit=limit)
        if answer != "ok":
            self.steps[name] = answer

    def settle(self) -> None:
        """Wait until the program has run for what was sent; TimeoutError if a queue of the kernel is stuck."""
        if not fences().round(vsock=self._vsock()):
            self._give_up()

    def read(self, readers: Mapping[str, str], *expected: str, limit: int = 0) -> None:
        """Read sockets until messages of these names are there, or nothing moves; each reader is a step and its socket.

        A step tells which messages the socket received, in order, and ends and errors. With a limit, the first read
        takes no more bytes than that.
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
        self.steps |= {step: told(found[name], self._parts) for step, name in readers.items()}

    def natively(self, *names: str, suffix: str = "") -> None:
        """Send a message each way between sockets that are in no map now and their peers: `ok`, or what arrived."""
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
        """Whether TCP still has to send something."""
        ends = (end for name, end in self.ends.items() if sockets.is_tcp(self._kinds.get(name, "")))
        return any(
            end.fileno() >= 0 and outcome(traffic.count, end, traffic.UNSENT) not in (0, "EINVAL") for end in ends
        )

    def _vsock(self) -> bool:
        return any(map(sockets.is_vsock, self._kinds.values()))

    def _give_up(self) -> None:
        renew_fences()
        raise TimeoutError("the kernel's queues do not move")
