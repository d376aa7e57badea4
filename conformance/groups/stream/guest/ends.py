# SPDX-License-Identifier: GPL-2.0-only
"""Let the peer of a source shut down, reset the connection, or send an empty datagram."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.stream.guest.setup import TARGET, Say, StreamSetup
from conformance.guestlib import sockets, traffic
from conformance.guestlib.answers import attempt


def _fin(one: socket.socket) -> None:
    one.shutdown(socket.SHUT_WR)


def _empty(one: socket.socket) -> None:
    one.send(b"", socket.MSG_DONTWAIT)


PEER_SENDS: Final[Mapping[str, Callable[[socket.socket], None]]] = {
    "fin": _fin,
    "reset": sockets.abort,
    "empty": _empty,
}
"""What the peer of the source sends, by the parameter `peer_sends`."""


def end(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Send a message and then FIN, reset or an empty datagram; a second source then redirects to the same target."""
    redirects = params["layout"] != "pass"
    if redirects:
        case.pair("target", params["target"])
        case.pair("second", "tcp4")
    case.make_maps()
    if redirects and not case.insert_targets({"target": TARGET}):
        return
    if not case.insert_sources("source", *(("second",) if redirects else ())):
        return
    case.say(Say.HELPER if redirects else Say.PASS, mode=params["mode"])
    reader = "source" if not redirects else "target" if params["mode"] == "local" else "target_peer"
    if redirects:
        case.pass_on("first", reader)
    else:
        case.steps["first"] = case.send("first")
    case.steps["peer-sends"] = attempt(PEER_SENDS[params["peer_sends"]], case.ends["source_peer"])
    case.settle()
    if not redirects:
        after = () if sockets.connects(params["kind"]) else ("after",)
        for name in after:
            case.steps[name] = case.send(name)
        case.read({"source": "source"}, "first", *after)
        return
    case.read({"source": "source"})
    for name in ("second", "third"):
        case.pass_on(name, reader, "second_peer")
    case.steps["error"] = traffic.pending_error(case.ends["target"])
    case.natively("target")
