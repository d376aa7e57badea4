# SPDX-License-Identifier: GPL-2.0-only
"""Let the verdict change from message to message on one socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.groups.stream.guest.setup import EMPTY, LISTENER, TARGET, Say, StreamSetup
from conformance.guestlib import sockets

REFUSALS: Final[Mapping[str, tuple[Say, int]]] = {
    "drop": (Say.DROP, EMPTY),
    "empty": (Say.HELPER, EMPTY),
    "listener": (Say.HELPER, LISTENER),
    "ignored-empty": (Say.IGNORE, EMPTY),
    "ignored-listener": (Say.IGNORE, LISTENER),
}
"""By name: the program's answer to the messages to refuse, and the slot that it asks the redirect helper for."""
_TARGETS: Final = "tcp4"


def change(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Pass a message, refuse one, redirect one, refuse one, pass one; then take the socket out, and send once more.

    Nothing is read before all five are sent, so that the reader sees their order.
    """
    case.pair("target", _TARGETS)
    listener = case.fixture.own(sockets.bound(_TARGETS))
    listener.listen(1)
    case.ends["listener"] = listener
    case.make_maps()
    if not (case.insert_targets({"target": TARGET, "listener": LISTENER}) and case.insert_sources("source")):
        return
    refusal, slot = REFUSALS[params["refusal"]]
    for name, what, key in (
        ("first", Say.PASS, EMPTY),
        ("refused", refusal, slot),
        ("redirected", Say.HELPER, TARGET),
        ("refused-again", refusal, slot),
        ("last", Say.PASS, EMPTY),
    ):
        case.say(what, key, params["mode"])
        case.steps[name] = case.send(name)
        case.settle()
    case.steps["runs"] = str(case.program.runs())
    target = "target" if params["mode"] == "local" else "target_peer"
    # A message that was refused and arrives all the same is there by now, too.
    case.read({"receiver": case.receives, "target": target}, "first", "redirected", "last")
    # What unread data of a parser does to the socket after that, `leave` asks.
    if case.kind == "parser":
        return
    case.leave()
    case.natively("source")
