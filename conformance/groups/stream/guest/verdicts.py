# SPDX-License-Identifier: GPL-2.0-only
"""Let the program return different verdicts for successive messages of one socket."""

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
"""What the program does with a refused message: its verdict, and the slot for which it calls the redirect helper."""
_TARGETS: Final = "tcp4"


def change(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Pass a message, refuse one, redirect one, refuse one, pass one; then delete the sockets, and send natively.

    The readers read only after all five messages are sent, so the step shows their order.
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
    # `settle` has let every message arrive, also a refused one that a faulty kernel delivers.
    case.read({"receiver": case.receives, "target": target}, "first", "redirected", "last")
    # `leave` asks how a parser's socket works after it has left its map.
    if case.kind == "parser":
        return
    case.leave()
    case.natively("source")
