# SPDX-License-Identifier: GPL-2.0-only
"""Send some messages natively and some by redirect to one reader, which reads when all have arrived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.groups.stream.guest.setup import TARGET, Say, StreamSetup

_NAMES: Final = ("first", "second", "third", "fourth")
PARSER: Final = "sk_skb_parser_record"
"""A parser that ignores skb->len, because that includes bytes that were read before the insertion."""
_FIRST, _TAKEN, _SECOND = 20, 10, 10
"""Bytes of the first message, bytes of it that are read before the insertion, and bytes of the second message."""


def order(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Send four messages, and read when all have been sent; `when` is the time of the insertion.

    `late`: the sockets are inserted after the first two messages, which are native. `mixed`: the sockets are inserted
    first, and the program returns SK_PASS for the first and the third message.
    """
    layout, late = params["layout"], params["when"] == "late"
    if layout == "other":
        case.pair("target", params["target"])
    case.make_maps()
    reader = "target" if layout == "other" else case.receives
    targets = {} if layout == "pass" else {reader: TARGET}
    verdict = layout == "peer-verdict"
    if not late and not _insert(case, targets, verdict=verdict):
        return
    for number, name in enumerate(_NAMES):
        if late and number == len(_NAMES) // 2 and not _insert(case, targets, verdict=verdict):
            return
        passes = layout == "pass" or (not late and number % 2 == 0)
        case.say(Say.PASS if passes else Say.HELPER, mode="local")
        case.steps[name] = case.send(name)
        case.settle()
    case.read({"reader": reader}, *_NAMES)


def _insert(case: StreamSetup, targets: Mapping[str, int], *, verdict: bool) -> bool:
    return case.insert_targets(targets, verdict=verdict) and case.insert_sources("source")


def partial(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Read a part of a message, insert the socket, send a second message, read everything, and delete the socket."""
    redirects = params["layout"] != "pass"
    if redirects:
        case.pair("target", params["target"])
    case.make_maps(PARSER)
    case.steps["first"] = case.send("first", size=_FIRST)
    case.settle()
    case.ends["source"].recv(_TAKEN)
    if redirects and not case.insert_targets({"target": TARGET}):
        return
    if not case.insert_sources("source"):
        return
    case.say(Say.HELPER if redirects else Say.PASS, mode=params["mode"])
    case.steps["second"] = case.send("second", size=_SECOND)
    case.settle()
    case.read({"reader": "target" if redirects else "source"}, "first", "second")
    case.leave()
    case.natively("source")
