# SPDX-License-Identifier: GPL-2.0-only
"""The survival cases: ordinary use of maps that has crashed or hung other kernels."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Final

from conformance.groups.kinds import MAPS
from conformance.model import Case

PROMISE: Final = "Input that crashed other kernels does not crash this one, and the data arrives."

_TCP = ("tcp4", "tcp6")
_DRAINED = (
    ("sockmap", "tcp4"), ("sockhash", "tcp6"),
    ("sockmap", "udp4"), ("sockhash", "udp6"),
    ("sockmap", "unix_stream"), ("sockhash", "unix_dgram"),
)  # fmt: skip
_LOOKING_UP = (
    ("sockmap", "udp4"), ("sockhash", "udp6"), ("sockmap", "tcp4"), ("sockhash", "tcp6"), ("sockmap", "unix_dgram"),
)  # fmt: skip
_SOON = 0.25
"""Deadline, in seconds, of a case that takes a hundredth of it; a kernel that hangs then costs little time."""

_LONG = 4.0
"""Deadline, in seconds, of a case that makes and frees a large map."""


@cache
def survive_cases() -> tuple[Case, ...]:
    """List the survival cases. A case that kills its clone harms no other case."""
    return tuple(
        Case(
            group="survive",
            name=f"{what}-{map_}-{kind}",
            scenario="conformance.groups.survive.guest.scenario:run",
            params={"what": what, "map": map_, "kind": kind},
            deadline=_LONG if what == "large" else _SOON,
        )
        for what, map_, kind in (
            *product(("parser-pass", "empty-receive"), MAPS, _TCP),
            *(("drained", *each) for each in _DRAINED),
            *((what, *each) for what, each in product(("lookup-udp", "lookup-tcp"), _LOOKING_UP)),
            *product(("large", "too-large"), MAPS, ("tcp4",)),
        )
    )
