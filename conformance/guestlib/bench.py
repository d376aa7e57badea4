# SPDX-License-Identifier: GPL-2.0-only
"""What one redirect case is made of: two pairs of sockets, the maps they are in, the program that runs."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from bpf.guest import syscall
from bpf.guest.programs import PROGRAMS
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt

UNLIMITED = 1 << 62

STATE = struct.Struct("=IIq")
"""The part of `struct state` in bpf/programs/redirect.h that user space writes: key, flags, budget."""
TALLIES = struct.Struct("=4Q")
"""The rest: runs and bytes with SK_PASS, runs and bytes with SK_DROP."""

_SUFFIX = {"sockmap": "map", "sockhash": "hash"}

_programs: dict[str, syscall.Program] = {}


class Bench:
    """One case set up; `made`, `attached` and `inserted` hold each step's answer, `"ok"` or the errno's name."""

    def __init__(self, params: Mapping[str, str]) -> None:
        self._map, self._layout = params["map"], params["layout"]
        self.sends = params["mode"].startswith("send-")
        """Whether IN sends, else IN's peer does."""
        self._flags = syscall.F_INGRESS if params["mode"].endswith("-local") else 0
        self._kinds = {"in": params["in"]}
        if self._layout not in ("self", "peer"):
            self._kinds["out"] = params["out"]
        self.loops = self._layout == "peer" and params["mode"] == "ingress-to-egress"
        """Whether what is redirected comes back to the program."""
        self.ends: dict[str, socket.socket] = {}
        """The sockets: `in`, `in_peer`, and unless the target is one of these `out`, `out_peer`."""
        self.made: dict[str, str] = {}
        self.attached: list[list[str]] = []
        self.inserted: dict[str, str] = {}
        self._descriptors: list[int] = []
        self._state: mmap.mmap | None = None

    def set_up(self) -> bool:
        """Make sockets and maps, attach, insert; False as soon as a step makes the case impossible."""
        for name, kind in self._kinds.items():
            self.made[name] = attempt(self._connect, name, kind)
        if not _all_ok(self.made.values()):
            return False
        program = get_program(f"sk_{'msg' if self.sends else 'skb'}_redirect_{_SUFFIX[self._map]}")
        maps = {name: self._keep(syscall.create_map(*definition)) for name, definition in program.maps.items()}
        same = self._layout == "same_map"
        source = maps["targets"] if same else self._keep(syscall.create_map(*program.maps["targets"]))
        key = 1 if same else 0
        self._state = mmap.mmap(maps["state"], mmap.PAGESIZE)
        STATE.pack_into(self._state, 0, key, self._flags, UNLIMITED)
        if not self._attach(source, self._keep(program.load(maps))):
            return False
        self.inserted["in"] = attempt(syscall.update, source, 0, self.ends["in"].fileno())
        self.inserted["out"] = attempt(syscall.update, maps["targets"], key, self.target.fileno())
        return _all_ok(self.inserted.values())

    @property
    def sender(self) -> socket.socket:
        """Who sends."""
        return self.ends["in" if self.sends else "in_peer"]

    @property
    def target(self) -> socket.socket:
        """Whom the program redirects to."""
        return self.ends[{"self": "in", "peer": "in_peer"}.get(self._layout, "out")]

    def kind(self, end: str) -> str:
        """Return the kind of a socket by its name in `ends`."""
        return self._kinds[end.removesuffix("_peer")]

    def uses_vsock(self) -> bool:
        """Whether data may pass the vsock loopback."""
        return any(map(sockets.is_vsock, self._kinds.values()))

    def allow(self, budget: int) -> None:
        """Let the program redirect that many more bytes; it answers SK_PASS to the rest."""
        assert self._state is not None
        struct.pack_into("=q", self._state, STATE.size - 8, budget)

    def tallies(self) -> tuple[int, int, int, int]:
        """Return since the beginning: runs and bytes with SK_PASS, runs and bytes with SK_DROP."""
        assert self._state is not None
        pass_runs, pass_bytes, drop_runs, drop_bytes = TALLIES.unpack_from(self._state, STATE.size)
        return pass_runs, pass_bytes, drop_runs, drop_bytes

    def close(self) -> None:
        """Close everything; sockets first, so that freeing the maps finds them empty."""
        for end in self.ends.values():
            end.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        if self._state is not None:
            self._state.close()

    def _connect(self, name: str, kind: str) -> None:
        self.ends[name], self.ends[f"{name}_peer"] = sockets.pair(kind)

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _attach(self, source: int, program: int) -> bool:
        if self.sends:
            return self._try_attach(source, program, "sk_msg_verdict")
        if self._layout == "parser":
            parser = self._keep(get_program("sk_skb_parser").load({}))
            parsing = self._try_attach(source, parser, "sk_skb_stream_parser")
            return self._try_attach(source, program, "sk_skb_stream_verdict") and parsing
        # a7ba4558e69a ("sock_map: Introduce BPF_SK_SKB_VERDICT"), 5.13: before, it goes by the other name.
        return self._try_attach(source, program, "sk_skb_verdict") or self._try_attach(
            source, program, "sk_skb_stream_verdict"
        )

    def _try_attach(self, source: int, program: int, attach_type: str) -> bool:
        answer = attempt(syscall.attach, source, program, attach_type)
        self.attached.append([attach_type, answer])
        return answer == "ok"


def _all_ok(answers: Any) -> bool:
    return all(answer == "ok" for answer in answers)


def get_program(name: str) -> syscall.Program:
    """Return one of `PROGRAMS`, read once in a process."""
    known = _programs.get(name)
    if known is None:
        known = _programs[name] = syscall.Program(PROGRAMS[name])
    return known
