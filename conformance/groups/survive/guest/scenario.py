# SPDX-License-Identifier: GPL-2.0-only
"""Do what is known to have killed kernels.

`parser-pass` has a parser and a verdict that lets everything pass; `empty-receive` asks for no bytes while such data
waits; `drained` has more redirected to a socket than it has room for, and reads all of it at once: when the first is
read, the rest is on the psock's backlog, and will be there a jiffy later. The Observation is `{"steps": {...}}`;
`empty` is how many bytes came when none were asked for, `received` what came otherwise.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from contextlib import closing

from bpf.guest import syscall
from conformance.guestlib import fixture
from conformance.guestlib.answers import Steps, attempt, name_of
from conformance.guestlib.fixture import Fixture, State, scenario
from conformance.guestlib.map_pair import MapPair
from conformance.guestlib.quiesce import fences

_DATA = b"passed by the program"
_PATIENCE = 2.0
_SIZE, _TOO_MANY = 1000, 8
"""Bytes of a message, and how many: a receive buffer of the least size has room for two."""


@scenario
def run(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Do `what` with a socket of a `kind` in a `map`."""
    (_drain if params["what"] == "drained" else _pass)(owned, params, steps)


def _pass(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    verdict = State(owned, budget=0).load("skb", params["map"], owned.map(params["map"]))
    source = owned.map(params["map"])
    if params["what"] == "parser-pass":
        parser = owned.load("sk_skb_parser", {})
        steps["parser"] = attempt(syscall.attach, source, parser, "sk_skb_stream_parser")
        steps["verdict"] = attempt(syscall.attach, source, verdict, "sk_skb_stream_verdict")
    else:
        steps["verdict"] = attempt(fixture.attach, source, verdict)
    ours, peer = owned.pair(params["kind"])
    steps["insert"] = source.insert(ours)
    peer.sendall(_DATA)
    ours.settimeout(_PATIENCE)
    try:
        if params["what"] == "empty-receive":
            # Data is there when this returns.
            ours.recv(1, socket.MSG_PEEK)
            steps["empty"] = str(len(ours.recv(0)))
        steps["received"] = "all" if ours.recv(len(_DATA) + 1) == _DATA else "other"
    except OSError as error:
        steps["received"] = name_of(error)


def _drain(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    pair = owned.enter_context(closing(MapPair(params["kind"], params["map"])))
    # Sockets of their own, to be closed before the maps.
    ends = owned.enter_context(Fixture())
    (ours, sender), (target, _) = ends.pair(params["kind"]), ends.pair(params["kind"])
    target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    steps["insert"] = attempt(pair.enter, ours, 0, target)
    if steps["insert"] != "ok":
        return
    sent = [bytes([ord("a") + number]) * _SIZE for number in range(_TOO_MANY)]
    pair.order(syscall.F_INGRESS, _SIZE * _TOO_MANY)
    for each in sent:
        sender.sendall(each)
        fences().backlog()
    # Not settimeout(), with which recv() would not wait in the kernel.
    target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(_PATIENCE), 0))
    found = b""
    try:
        while len(found) < _SIZE * _TOO_MANY and (piece := target.recv(_SIZE * _TOO_MANY)):
            found += piece
        steps["received"] = "all" if found == b"".join(sent) else "other"
    except OSError as error:
        steps["received"] = name_of(error)
