# SPDX-License-Identifier: GPL-2.0-only
"""Take a socket out of a map in every way, in every state of its data, and check what is left.

A case has a socket (`kind`, `map`, `role`, `program`), its `data`, and a way out (`exit`); all cases ask the same
questions afterwards. The Observation is `{"steps": {name: answer}, "control": {name: answer}}`, with the steps in
order. A step that makes no sense any more (the socket is closed, the map is freed) is absent. If this kernel or guest
has no such socket, `available` is the only step. `control` has the answers of sockets that were never in a map; it is
absent if this kernel does not insert such a socket.

- `link`: whether the kernel has links to maps, `"ok"` or the errno; without them the case stops;
- `insert`, `exit`: `"ok"` or the errno;
- `data`: `"so"` if the data got into its state, else the reason; `"locked"` if a thread that waits for data holds the
  socket lock, and then the case stops;
- `kept`: the socket in the map while a duplicate, an owner or a pinned name still kept it;
- `entry`: `"gone"`, `"there"` or `"replaced"`, if lookup and iteration agree and the sentinel is still in the map;
- `second`: the socket in the other map that the socket is in;
- `slot`: whether another socket can be inserted there with BPF_NOEXIST;
- `poll`: the result of poll(2); `count`: whether FIONREAD agrees with the bytes that recv(2) then returns;
- `queued`: which socket received the data in flight; `peer`: what else recv(2) on the peer returns, an end or an error;
- `receive`, `send`, `redirect`: which socket received what the peer, the socket, and `far` sent;
- `runs`: whether the socket's own program ran for what was received (sent, for an SK_MSG program);
- `probe`: whether the socket can be inserted into another map with a verdict, `"EBUSY"` if it carries one;
- `again`: whether the socket can be inserted again, and whether the program then runs;
- `reader`, `sender`, `pollers`: whether a thread still waits in recv(2), in send(2), in poll(2), select(2) and
  epoll_wait(2), or the result of its call; `...-then`: after `receive` and `send`;
- `error`: SO_ERROR; `memory`: whether receive buffers are still charged to the socket after all data was read.

The control is the same scenario on sockets that were never in a map, in the same clone. A way out that touches the map
alone leaves such a socket as it is, and data that a program passed or redirected arrives without a program. So many
cases share one control. A process runs each control once and remembers its answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.groups.teardown.guest.after_removal import look
from conformance.groups.teardown.guest.data import DATA, LOCKED, DataState, fill
from conformance.groups.teardown.guest.setup import TeardownSetup
from conformance.guestlib import fixture
from conformance.guestlib.answers import Steps, attempt
from conformance.guestlib.fixture import Fixture
from conformance.guestlib.ways_out import WAYS


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case."""
    observation = _in_map(params)
    if params["program"] == "parser":
        # The kernel checks a strparser when it frees it; its warning must come within the window of this case.
        fixture.reap()
    # If the kernel does not insert such a socket, there is nothing to compare with a control.
    inserted = observation["steps"].get("insert") == "ok"
    return {**observation, "control": control(params)} if inserted else observation


@fixture.scenario
def _in_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    data, case = DATA[params["data"]], TeardownSetup(params, steps, owned)
    if params["exit"] == "link":
        steps["link"] = attempt(case.link)
        if steps["link"] != "ok":
            return
    data.before(case)
    steps["insert"] = case.insert()
    if steps["insert"] == "ok":
        steps["data"] = data.arrange(case)
    if steps.get("data", LOCKED) != LOCKED:
        steps["exit"] = attempt(WAYS[params["exit"]], case)
        look(case)


STAYS: Final = "stays"
"""The way out of a control whose sockets are left alone."""
_EXITS: Final = {
    **dict.fromkeys(("delete", "delete_one", "destroy", "destroy_one", "held", "replace", "unpin"), STAYS),
    **dict.fromkeys(("detach", "itself", "link", "swap"), STAYS),
    "close_both": "close",
}
"""Ways out that are different for a socket in no map: the equivalent for the control."""
_FULL: Final = "full"
_DATA: Final = {"passed": "native", "redirected": "native", "backlog": _FULL, "corked": "none", "applied": "none"}
"""States of the data that need a map: the equivalent state for the control.

Data that a program corks, or redirects out of a full socket, has no equivalent: it is judged without control.
"""
_STATES: Final[Mapping[str, DataState]] = {**DATA, _FULL: DataState(before=fill)}
_known: Final[dict[tuple[str, str, str], Steps]] = {}
"""The answers of each control of this process, by way out, kind and data."""


def control(params: Mapping[str, str]) -> Steps:
    """Return the answers of the control of a case; it is run when this process first needs it."""
    exit_ = _EXITS.get(params["exit"], params["exit"])
    data = _DATA.get(params["data"], params["data"])
    key = exit_, params["kind"], data
    if key not in _known:
        in_none = {**params, "exit": exit_, "data": data, "role": "in", "program": "none"}
        _known[key] = _in_no_map(in_none)["steps"]
    return _known[key]


@fixture.scenario
def _in_no_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    state, case = _STATES[params["data"]], TeardownSetup(params, steps, owned, mapped=False)
    state.before(case)
    steps["data"] = state.arrange(case)
    if params["exit"] != STAYS:
        steps["exit"] = attempt(WAYS[params["exit"]], case)
    look(case)
