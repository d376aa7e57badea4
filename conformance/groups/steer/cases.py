# SPDX-License-Identifier: GPL-2.0-only
"""The steering cases: sk_lookup and reuseport programs select sockets from a map."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from conformance.groups.kinds import MAPS
from conformance.model import Case

PROMISE: Final = (
    "A connection or datagram goes to the socket that the program selects from the map, and never to a socket that is "
    "not in the map or that the kernel must refuse."
)

HOOKS: Final = ("sk_lookup", "sk_reuseport")
_KINDS: Final = ("tcp4", "tcp6", "udp4", "udp6")
_VARIANTS: Final = ("plain", "removed", "connected", "foreign")


@cache
def steer_cases() -> tuple[Case, ...]:
    """List the steering cases."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for hook, map_, kind, variant in product(HOOKS, MAPS, _KINDS, _VARIANTS):
        yield _case(hook=hook, map=map_, kind=kind, variant=variant)
    for map_, kind in product(MAPS, ("tcp4", "tcp6")):
        yield _case(hook="sk_lookup", map=map_, kind=kind, variant="stolen")


def _case(**params: str) -> Case:
    return Case(
        group="steer",
        name="-".join(params.values()),
        scenario="conformance.groups.steer.guest.scenario:run",
        params=params,
    )
