# SPDX-License-Identifier: GPL-2.0-only
"""Send messages through a program in a map, and name the messages that each socket receives, in order.

The Observation is `{"steps": {name: answer}}`. A step with the name of a socket, or of its role, lists the messages
that the socket received, in order. A piece of a message is a slice, `second[4:9]`. Between two messages there may be
`eof`, `empty` for an empty datagram, or an errno. The steps of each question:

- `verdict` (verdicts.py): `first`, `refused`, `redirected`, `refused-again` and `last` are the results of send(2):
  `"ok"` or the errno. `runs` is how often the program ran for them. `receiver` receives the passed messages, `target`
  the redirected ones.
- `leave` (leave.py): `first`, `second` and `third` are read one by one.
- `end` (ends.py): `first`, `second` and `third` are read one by one; a second source sends the last two. `peer-sends`
  is the result of the shutdown, the reset or the empty datagram. `source` receives that end, and `error` is SO_ERROR of
  the target.
- `order`, `partial` (order.py): `first` to `fourth` are the results of send(2), and `reader` receives all of them.
- `records` (records.py): a step for each piece has the number of runs so far, and the records received after the piece.
- `cut` (records.py): `record` and `piece` are the results of send(2); `source` and `target` receive.
- `bulk` (bulk.py): `received` compares the received data with the sent data. `rmem` says whether SK_MEMINFO_RMEM_ALLOC
  of the reader is above 0 while data waits, and `error` whether a socket has a pending SO_ERROR.

`leave` is `"ok"`, or the first errno of the deletions. After them `source-in`, `source-out`, `target-in` and
`target-out` are `"ok"` if a message to the socket, or from it, arrives; `-again` is the next message.

`insert` is `"ok"`, or the first errno of an insertion, which ends the case. If this kernel or guest has no such socket,
`available` is the only step. A case whose program passes everything has a control: the same on sockets in no map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.stream.guest import bulk, ends, leave, order, records, verdicts
from conformance.groups.stream.guest.setup import StreamSetup
from conformance.guestlib import fixture
from conformance.guestlib.answers import Steps
from conformance.guestlib.fixture import Fixture

QUESTIONS: Final[Mapping[str, Callable[[StreamSetup, Mapping[str, str]], None]]] = {
    "verdict": verdicts.change,
    "leave": leave.leave,
    "end": ends.end,
    "bulk": bulk.bulk,
    "order": order.order,
    "partial": order.partial,
    "records": records.records,
    "cut": records.cut,
}
"""The function of each question."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case."""
    observation = _in_map(params)
    if params["program"] == "parser":
        # The kernel checks a strparser when it frees it. Wait for that, so a warning is part of this case's kernel log.
        fixture.reap()
    inserted = observation["steps"].get("insert") == "ok"
    if inserted and params["question"] in _COMPARED and params["layout"] == "pass":
        return {**observation, "control": _in_no_map(params)["steps"]}
    return observation


_COMPARED: Final = ("end", "order", "partial")
"""The questions with a control."""


@fixture.scenario
def _in_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    QUESTIONS[params["question"]](StreamSetup(owned, params, steps), params)


@fixture.scenario
def _in_no_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    QUESTIONS[params["question"]](StreamSetup(owned, params, steps, mapped=False), params)
