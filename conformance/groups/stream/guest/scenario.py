# SPDX-License-Identifier: GPL-2.0-only
"""Ask of sockets in a map what an application expects of a stream: whole, in order, once, and with an end.

The Observation is `{"steps": {name: answer}}`. Steps that are named after a socket, or after a role of one, tell which
messages it received, in order, by their names; a piece of one is a slice, `second[4:9]`. Between two messages may be
`eof`, `empty` for an empty datagram, or an errno. The steps of a question are listed where it is asked:

- `verdict` (verdicts.py): `first`, `refused`, `redirected`, `refused-again` and `last` are answers of send(2), `"ok"`
  or the errno; `runs` counts the runs of the program for them; `receiver` and `target` read what was passed and what
  was redirected;
- `leave` (leave.py): `first`, `second` and `third` are read one by one;
- `end` (ends.py): `first`, `second` and `third` are read one by one, the last two from another source; `event` is the
  answer of what ends the first source, `source` reads that end; `error` is SO_ERROR of the target;
- `order`, `partial` (order.py): `first` to `fourth` are answers of send(2), `reader` reads them all at last;
- `records` (records.py): the steps of the pieces count the runs of the program so far, and what was read since;
- `cut` (records.py): `record` and `piece` are answers of send(2), `source` and `target` read;
- `bulk` (bulk.py): `sent` and `received` say how much of it; `charged` whether the reader is charged for what waits;
  `error` whether a socket has an error.

`leave` is the first errno of taking the sockets out of their maps; `source-in`, `source-out`, `target-in` and
`target-out` use them then, `"ok"` if what is sent to the socket, and by it, arrives; `-again` once more.

`insert` is `"ok"`, or the first errno of an insertion, and then the only step. If this kernel or guest has no such
socket, `available` is the only step. Of what a program passes there is a control: the same on sockets in no map.
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
"""By name."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case."""
    observation = _in_map(params)
    if params["program"] == "parser":
        # The kernel checks a strparser when it frees it; its warning must come within the window of this case.
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
