# SPDX-License-Identifier: GPL-2.0-only
"""The five ways a socket gets into a map, each proved by what then can be done with the socket. See `setup`.

The Observation is `{"steps": {name: answer}}`, the steps in the order they were taken; a step that could not be
reached is absent; `available` is the only one where this kernel or guest has no such socket, and says why. Steps named
after system calls and what programs did answer `"ok"` or an errno; `lookup...` whether the map shows the socket's
`"cookie"`; `redirect...`, `send...` and `receive...` where data came out, `"data: WHERE"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from conformance.groups.enrol.guest import descriptors, iterator, refused, sock_ops
from conformance.groups.enrol.guest.setup import EnrolSetup
from conformance.guestlib import child
from conformance.guestlib.answers import Steps
from conformance.guestlib.fixture import Fixture, ImpossibleError

WAYS: Final[Mapping[str, Callable[[EnrolSetup, Mapping[str, str], Steps], None]]] = {
    "own": descriptors.own,
    "scm": descriptors.handed_over,
    "pidfd": descriptors.stolen,
    "sock_ops": sock_ops.run,
    "iterator": iterator.run,
}
REFUSED: Final = "pidfd-refused"
"""In these cases pidfd_getfd(2) must fail, so no socket enters a map and no data is sent."""


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case; `params` are `way`, `map`, `kind` and what the way's module reads."""
    steps: Steps = {}
    try:
        with suppress(ImpossibleError), Fixture() as fixture:
            if params["way"] == REFUSED:
                refused.REASONS[params["why"]](fixture, steps)
            else:
                WAYS[params["way"]](EnrolSetup(params, fixture), params, steps)
    except BaseException:
        child.discard()
        raise
    return {"steps": steps}


def warm_up(params: Mapping[str, str]) -> dict[str, int]:
    """Run a case of each way, so that code, the other process and its cgroups, and the kernel's BTF are at hand."""
    usual = {"map": "sockhash", "kind": "tcp4", "role": "target"}
    wanted: tuple[dict[str, str], ...] = (
        {"way": "own", "by": "descriptor"},
        {"way": "scm", "sender": "keeps"},
        {"way": "pidfd", "variant": "plain"},
        {"way": "sock_ops", "variant": "plain", "side": "active"},
        {"way": "iterator", "variant": "copy", "from": "sockmap"},
        {"way": "iterator", "variant": "all", "hook": "iter_tcp"},
    )
    done = 0
    for case in wanted:
        # What this kernel lacks, the cases will tell.
        with suppress(Exception):
            run({**usual, **case})
            done += 1
    return {"cases": done}
