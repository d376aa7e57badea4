# SPDX-License-Identifier: GPL-2.0-only
"""The control of a teardown case: the same scenario on sockets that were never in a map, in the same clone.

A way out that touches the map alone leaves such a socket as it is, and data that a program let pass or redirected
arrives without a program. So many cases share one control. A process runs each control once and remembers its answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from contextlib import suppress
from typing import Final

from conformance.groups.teardown.guest.aftermath import Aftermath
from conformance.groups.teardown.guest.data import DATA
from conformance.groups.teardown.guest.data import State
from conformance.groups.teardown.guest.data import fill
from conformance.groups.teardown.guest.exits import EXITS
from conformance.groups.teardown.guest.scene import Scene
from conformance.guestlib.answers import attempt
from conformance.guestlib.kit import Steps
from conformance.guestlib.proof import ImpossibleError

STAYS: Final = "stays"
"""The way out of a control to whose sockets nothing happens."""
_EXITS: Final = {
    **dict.fromkeys(("delete", "delete_one", "destroy", "destroy_one", "held", "replace", "unpin"), STAYS),
    **dict.fromkeys(("detach", "itself", "link", "swap"), STAYS),
    "close_both": "close",
}
"""Ways out of a map by what they are to sockets that are in none; the others are to them what they always are."""
_FULL: Final = "full"
_DATA: Final = {"passed": "native", "redirected": "native", "backlog": _FULL, "corked": "none", "applied": "none"}
"""States of the data that need a map, by the state that the socket and its bytes are in without one.

What a program corks or redirects out of a full socket is neither sent nor in that socket: it is judged without control.
"""
_STATES: Final[Mapping[str, State]] = {**DATA, _FULL: State(before=fill)}
_known: Final[dict[tuple[str, str, str], Steps]] = {}
"""What each control of this process answered, by way out, kind and data."""


def control(params: Mapping[str, str]) -> Steps:
    """Return what the control of a case answers; it is carried out the first time this process needs it."""
    exit_ = _EXITS.get(params["exit"], params["exit"])
    data = _DATA.get(params["data"], params["data"])
    key = exit_, params["kind"], data
    if key not in _known:
        _known[key] = _carry_out({**params, "exit": exit_, "data": data, "role": "in", "program": "none"})
    return _known[key]


def _carry_out(params: Mapping[str, str]) -> Steps:
    steps: Steps = {}
    with suppress(ImpossibleError), closing(Scene(params, steps, mapped=False)) as scene:
        state = _STATES[params["data"]]
        state.before(scene)
        steps["data"] = state.arrange(scene)
        if params["exit"] != STAYS:
            steps["exit"] = attempt(EXITS[params["exit"]], scene)
        Aftermath(scene).look()
    return steps
