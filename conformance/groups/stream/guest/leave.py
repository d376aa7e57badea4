# SPDX-License-Identifier: GPL-2.0-only
"""Read passed or redirected messages, delete the sockets from their maps, and send natively."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.groups.stream.guest.setup import TARGET, Say, StreamSetup

SIZES: Final[Mapping[str, tuple[int, ...]]] = {"equal": (13, 13, 13), "shrinking": (40, 13, 5)}
"""The bytes of each message; the reader reads after each message."""
_NAMES: Final = ("first", "second", "third")
_SMALL: Final = 4
"""Bytes that the first of two reads takes."""


def leave(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Send three messages and read them, one by one or all together; then delete the sockets, and send natively.

    Two messages are sent natively in each direction, because some kernels lose only the first.
    """
    layout, mode = params["layout"], params["mode"]
    other = layout.startswith("other")
    if other:
        case.pair("target", params["target"])
    case.make_maps()
    targets = {"target": TARGET} if other else {"source": TARGET} if layout == "self" else {}
    if not (case.insert_targets(targets, verdict=layout == "other-verdict") and case.insert_sources("source")):
        return
    case.say(Say.PASS if layout == "pass" else Say.HELPER, mode=mode)
    reader = case.receives if layout == "pass" else "source" if layout == "self" else "target"
    if mode == "egress":
        reader = "target_peer"
    if params["read"] == "late":
        for name in _NAMES:
            case.send(name)
            case.settle()
        case.read({"late": reader}, *_NAMES)
    else:
        for name, size in zip(_NAMES, SIZES[params["sizes"]], strict=True):
            case.pass_on(name, reader, size=size, limit=_SMALL if params["read"] == "two" else 0)
    case.leave()
    for suffix in ("", "-again"):
        case.natively("source", *(("target",) if other else ()), suffix=suffix)
