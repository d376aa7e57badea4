# SPDX-License-Identifier: GPL-2.0-only
"""The setup of one redirect case: two pairs of sockets, the maps they are in, the program that runs."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from bpf.guest import syscall
from conformance.guestlib.answers import attempt
from conformance.guestlib.fixture import Fixture, State


class RedirectSetup:
    """One case set up; `made`, `attached` and `inserted` hold each step's answer, `"ok"` or the errno's name."""

    def __init__(self, params: Mapping[str, str], fixture: Fixture) -> None:
        self._fixture = fixture
        self._map, self._layout = params["map"], params["layout"]
        self.sends = params["mode"].startswith("send-")
        """Whether IN sends, else IN's peer does."""
        self._flags = syscall.F_INGRESS if params["mode"].endswith("-local") else 0
        self._kinds = {"in": params["in"]}
        if self._layout not in ("self", "peer"):
            self._kinds["out"] = params["out"]
        self.loops = self._layout == "peer" and params["mode"] == "ingress-to-egress"
        """Whether redirected data runs the program again."""
        self.ends: dict[str, socket.socket] = {}
        """The sockets: `in`, `in_peer`, and unless the target is one of these `out`, `out_peer`."""
        self.made: dict[str, str] = {}
        self.attached: list[list[str]] = []
        self.inserted: dict[str, str] = {}

    def set_up(self) -> bool:
        """Make sockets and maps, attach, insert; False as soon as a step makes the case impossible."""
        for name, kind in self._kinds.items():
            self.made[name] = attempt(self._connect, name, kind)
        if {*self.made.values()} != {"ok"}:
            return False
        targets = self._fixture.map(self._map)
        same = self._layout == "same_map"
        source = targets if same else self._fixture.map(self._map)
        key = 1 if same else 0
        self.state = State(self._fixture, key=key, flags=self._flags)
        if not self._attach(source, self.state.load("msg" if self.sends else "skb", self._map, targets)):
            return False
        first = self._fixture.map(self._map).insert(self.ends["in"]) if self._layout == "member" else "ok"
        self.inserted["in"] = source.insert(self.ends["in"]) if first == "ok" else first
        self.inserted["out"] = targets.insert(self.target, key)
        return {*self.inserted.values()} == {"ok"}

    @property
    def sender(self) -> socket.socket:
        """The socket that sends."""
        return self.ends["in" if self.sends else "in_peer"]

    @property
    def target(self) -> socket.socket:
        """The socket that the program redirects to."""
        return self.ends[{"self": "in", "peer": "in_peer"}.get(self._layout, "out")]

    def kind(self, end: str) -> str:
        """Return the kind of a socket by its name in `ends`."""
        return self._kinds[end.removesuffix("_peer")]

    def _connect(self, name: str, kind: str) -> None:
        self.ends[name], self.ends[f"{name}_peer"] = self._fixture.pair(kind)

    def _attach(self, source: int, program: int) -> bool:
        if self.sends:
            return self._try_attach(source, program, "sk_msg_verdict")
        if self._layout == "parser":
            parsing = self._try_attach(source, self._fixture.load("sk_skb_parser", {}), "sk_skb_stream_parser")
            return self._try_attach(source, program, "sk_skb_stream_verdict") and parsing
        # a7ba4558e69a ("sock_map: Introduce BPF_SK_SKB_VERDICT"), 5.13: before, the other attach type serves.
        return self._try_attach(source, program, "sk_skb_verdict") or self._try_attach(
            source, program, "sk_skb_stream_verdict"
        )

    def _try_attach(self, source: int, program: int, attach_type: str) -> bool:
        answer = attempt(syscall.attach, source, program, attach_type)
        self.attached.append([attach_type, answer])
        return answer == "ok"
