# SPDX-License-Identifier: GPL-2.0-only
"""Use maps in ways that have crashed or hung other kernels.

- `parser-pass` attaches a parser and a verdict that passes all data;
- `empty-receive` calls recv(2) with a length of 0 while data waits that a verdict passed;
- `drained` redirects more data to a socket than its receive buffer holds, and reads all of it at once. After the first
  recv(2) the rest is in the backlog of the psock, whose worker retries a jiffy later;
- `lookup-udp` and `lookup-tcp` attach a verdict that calls a lookup helper and passes the data;
- `large` destroys a map of 2^20 entries;
- `too-large` creates a map of 2^31 entries.

The Observation is `{"steps": {...}}`. `empty` is what recv(2) with a length of 0 returned, `received` whether recv(2)
returned all data, `freed` whether the kernel freed the map.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from contextlib import closing

from bpf.guest import assemble as asm
from bpf.guest import syscall
from conformance.guestlib import fixture
from conformance.guestlib.answers import Steps, attempt, name_of, opens, wait_until
from conformance.guestlib.fixture import Fixture, State, scenario
from conformance.guestlib.map_pair import MapPair
from conformance.guestlib.quiesce import fences

_DATA = b"passed by the program"
_PATIENCE = 2.0
_FREEING = 20.0
"""Seconds for the kernel to free a large map."""
_SIZE, _TOO_MANY = 1000, 8
"""Bytes of a message, and how many messages: the smallest receive buffer holds two."""

_LARGE, _TOO_LARGE = 1 << 20, 1 << 31
_POINTER = 8
_HELPERS = {"lookup-tcp": 84, "lookup-udp": 85}
"""Ids of bpf_sk_lookup_tcp and bpf_sk_lookup_udp."""
_RELEASE = 86
_TUPLE = 12
"""Bytes of the IPv4 addresses and ports in `struct bpf_sock_tuple`."""
_CURRENT_NETNS = -1


@scenario
def run(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Do `what` with a socket of a `kind` in a `map`."""
    _ASKED[params["what"]](owned, params, steps)


def _look_up(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Look up a socket that does not exist, for data that arrives."""
    room = (
        asm.store(asm.STACK, -16, 0) + asm.store(asm.STACK, -8, 0) + asm.move(asm.R2, asm.STACK) + asm.add(asm.R2, -16)
    )
    rest = asm.put(asm.R3, _TUPLE) + asm.put(asm.R4, _CURRENT_NETNS) + asm.put(asm.R5, 0)
    call = asm.move(asm.R1, asm.R6) + room + rest + asm.call(_HELPERS[params["what"]])
    release = asm.unless_zero(asm.R0, asm.move(asm.R1, asm.R0) + asm.call(_RELEASE))
    verdict = fixture.counting("sk_skb_verdict", params["what"], before=call + release)
    source = owned.map(params["map"])
    steps["verdict"] = attempt(fixture.attach, source, verdict.descriptor)
    with fixture.possible(steps):
        ours, peer = owned.pair(params["kind"])
    steps["insert"] = source.insert(ours)
    if steps["insert"] != "ok":
        return
    before = verdict.runs()
    peer.sendall(_DATA)
    ours.settimeout(_PATIENCE)
    try:
        steps["received"] = "all" if ours.recv(len(_DATA) + 1) == _DATA else "other"
    except OSError as error:
        steps["received"] = name_of(error)
    steps["runs"] = "yes" if verdict.runs() > before else "no"


def _destroy_large(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Destroy a large map with a socket in it, which keeps the verdict of the map until the kernel frees the map."""
    verdict = fixture.counting("sk_skb_verdict", "first").descriptor
    ours, _ = owned.pair(params["kind"])
    probe = owned.map(params["map"], 1)
    fixture.attach(probe, verdict)
    with fixture.possible(steps):
        large = owned.map(params["map"], _LARGE)
    fixture.attach(large, verdict)
    steps["insert"] = large.insert(ours, _LARGE - 1)
    owned.drop(large)
    steps["freed"] = "yes" if wait_until(lambda: probe.insert(ours) == "ok", _FREEING) else "no"


def _ask_too_much(_owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Create a map of 2^31 entries. A sockmap takes a pointer for each entry; a sockhash refuses that size first."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if params["map"] == "sockmap" and memory >= _TOO_LARGE * _POINTER:
        steps["available"] = "this machine has 16 GiB of memory or more, and the kernel might give them to the map"
        return
    create = (syscall.MAP_TYPES[params["map"]], 4, 4, _TOO_LARGE)
    steps["create"] = opens(syscall.create_map, *create)


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
    # A fixture of its own closes these sockets before the maps.
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
    # With settimeout() Python would poll, and recv(2) would not block in the kernel.
    target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(_PATIENCE), 0))
    found = b""
    try:
        while len(found) < _SIZE * _TOO_MANY and (piece := target.recv(_SIZE * _TOO_MANY)):
            found += piece
        steps["received"] = "all" if found == b"".join(sent) else "other"
    except OSError as error:
        steps["received"] = name_of(error)


_ASKED = {
    **dict.fromkeys(("parser-pass", "empty-receive"), _pass),
    "drained": _drain,
    **dict.fromkeys(("lookup-udp", "lookup-tcp"), _look_up),
    "large": _destroy_large,
    "too-large": _ask_too_much,
}
