# SPDX-License-Identifier: GPL-2.0-only
"""The five ways to insert a socket into a map, each proved by using the socket afterwards. See `setup`.

The Observation is `{"steps": {name: answer}}`, the steps in the order they were taken; a step that could not be
reached is absent; `available` is the only one where this kernel or guest has no such socket, and says why. Steps named
after system calls and what programs did answer `"ok"` or an errno; `lookup...` whether the map shows the socket's
`"cookie"`; `redirect...`, `send...` and `receive...` where data came out, `"data: WHERE"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.enrol.guest import descriptors, iterator, refused, sock_ops
from conformance.groups.enrol.guest.setup import EnrolSetup
from conformance.guestlib.answers import Steps
from conformance.guestlib.fixture import Fixture, scenario

WAYS: Final[Mapping[str, Callable[[Mapping[str, str], Fixture, Steps], None]]] = {
    "own": lambda params, fixture, steps: descriptors.own(EnrolSetup(params, fixture, steps)),
    "scm": lambda params, fixture, steps: descriptors.handed_over(EnrolSetup(params, fixture, steps)),
    "pidfd": lambda params, fixture, steps: descriptors.stolen(EnrolSetup(params, fixture, steps)),
    "sock_ops": lambda params, *made: sock_ops.VARIANTS[params["variant"]](sock_ops.SockOpsSetup(params, *made)),
    "iterator": lambda params, *made: iterator.VARIANTS[params["variant"]](EnrolSetup(params, *made)),
}
REFUSED: Final = "pidfd-refused"
"""In these cases pidfd_getfd(2) must fail, so no socket enters a map and no data is sent."""


@scenario
def run(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Carry out one case; `params` are `way`, `map`, `kind` and what the way's module reads."""
    if params["way"] == REFUSED:
        refused.REASONS[params["why"]](fixture, steps)
    else:
        WAYS[params["way"]](params, fixture, steps)
