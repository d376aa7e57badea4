# SPDX-License-Identifier: GPL-2.0-only
"""Take a socket out of a map in every way, in every state of its data, and check what is left.

A case is a case (`kind`, `map`, `role`, `program`), its `data`, a way out (`exit`), and the same questions afterwards.
The Observation is `{"steps": {name: answer}, "control": {name: answer}}`, in the order they were taken; a step that
makes no sense any more (the socket is closed, the map is gone) is absent; `available` is the only one where this kernel
or guest has no such socket. `control` has what sockets answer that were never in a map, and is absent where this kernel
does not insert such a socket.

- `link`: where links are to be destroyed, whether there are any, `"ok"` or the errno, and then nothing more is asked;
- `insert`, `exit`: `"ok"` or the errno;
- `data`: whether the data got into its state, `"so"`, or what it did instead: `"locked"` if a thread that
  waits for data keeps all others from the socket, and then nothing more is asked;
- `kept`: who was in the map while something still kept the socket: a duplicate, an owner, a name of the map;
- `entry`: `"gone"`, `"there"` or `"replaced"`, if lookup and iteration agree and the sentinel is still in the map;
- `second`: who is in the other map that the socket is in;
- `slot`: whether another socket can be inserted there, by BPF_NOEXIST;
- `poll`: what poll(2) says of the socket; `count`: whether FIONREAD tells the bytes that recv(2) then finds;
- `queued`: where the data came out that was in flight; `peer`: what else the peer reads, an end or an error;
- `receive`, `send`: where came out what the peer, and what the socket sent; `redirect`: what far sent;
- `runs`: whether the socket's own program ran on what was received (sent, for an SK_MSG program);
- `probe`: whether the socket can be inserted into another map with a verdict, `"EBUSY"` if it carries one;
- `again`: whether the socket can be inserted again, and whether the program then runs;
- `reader`, `sender`, `pollers`: whether a thread still waits in recv(2), in send(2), in poll(2), select(2) and
  epoll_wait(2), or what it came back with; `...-then`: after `receive` and `send`;
- `error`: SO_ERROR; `memory`: whether receive buffers are still charged to the socket once all was read.

The control is the same scenario on sockets that were never in a map, in the same clone. A way out that touches the map
alone leaves such a socket as it is, and data that a program let pass or redirected arrives without a program. So many
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
        # The kernel checks a strparser when it frees it, and is to complain while this case can still be blamed.
        fixture.reap()
    # A kernel that does not insert such a socket has nothing that a control could be compared with.
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

What a program corks or redirects out of a full socket is neither sent nor in that socket: it is judged without control.
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
