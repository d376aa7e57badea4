# SPDX-License-Identifier: GPL-2.0-only
"""Send records of ten bytes through a parser, in pieces and several at once."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

from conformance.groups.stream.guest.messages import message
from conformance.groups.stream.guest.order import PARSER
from conformance.groups.stream.guest.setup import OTHER, TARGET, Say, StreamSetup

RECORD: Final = 10
"""Bytes of a record: RECORD of bpf/programs/sk_skb_parser_record.bpf.c."""
_PIECES: Final[Mapping[str, int]] = {"start": 2, "header": 2, "record": 6, "several": 35, "rest": 5}
"""The bytes of each send(2), by the name of the step that reads afterwards."""
_RECORDS: Final = 5
_SHORT: Final = 4
"""Bytes of a recv(2) or send(2) that is shorter than a record."""


def records(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Send five records in pieces that do not end where a record ends; read after each piece."""
    layout, mode = params["layout"], params["mode"]
    targets = {"pass": {}, "one": {"target": TARGET}, "two": {"target": TARGET, "other": OTHER}}[layout]
    for name in targets:
        case.pair(name, params["target"])
    case.make_maps(PARSER)
    if not (case.insert_targets(targets) and case.insert_sources("source")):
        return
    case.say(Say.PASS if layout == "pass" else Say.HELPER, TARGET, mode, turns=len(targets))
    readers = {name: name if mode == "local" else f"{name}_peer" for name in targets} or {"source": "source"}
    stream = message(_RECORDS * RECORD)
    case.know({f"r{number + 1}": stream[number * RECORD :][:RECORD] for number in range(_RECORDS)})
    sent = 0
    for step, size in _PIECES.items():
        case.send_raw(stream[sent : sent + size])
        sent += size
        case.settle()
        due = [f"r{number + 1}" for number in range((sent - size) // RECORD, sent // RECORD)]
        # The reader of passed records also reads less than a record at once.
        steps = {f"{step}-{name}" if len(readers) > 1 else step: reader for name, reader in readers.items()}
        case.read(steps, *due, limit=_SHORT if layout == "pass" else 0)
        runs = f"{case.program.runs()} runs, "
        case.steps |= {name: runs + case.steps[name] for name in steps}
    case.leave()
    case.natively("source")


def cut(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Send one record and the beginning of a second one; then the peer shuts down."""
    redirects = params["layout"] != "pass"
    if redirects:
        case.pair("target", params["target"])
    case.make_maps(PARSER)
    if redirects and not case.insert_targets({"target": TARGET}):
        return
    if not case.insert_sources("source"):
        return
    case.say(Say.HELPER if redirects else Say.PASS, TARGET, params["mode"])
    case.steps["record"] = case.send("r1", size=RECORD)
    case.steps["piece"] = case.send("r2", size=_SHORT)
    case.ends["source_peer"].shutdown(socket.SHUT_WR)
    case.settle()
    if redirects:
        case.read({"target": "target" if params["mode"] == "local" else "target_peer", "source": "source"}, "r1")
    else:
        case.read({"source": "source"}, "r1")
