# SPDX-License-Identifier: GPL-2.0-only
"""The leak cases: every way out of a map for every kind of socket, as often as the run says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Final

from conformance.groups.kinds import KINDS
from conformance.model import Case

PROMISE: Final = (
    "After sockets have left a map, in any way, the kernel keeps no socket, object, descriptor or memory of them."
)

FEWEST_ROUNDS: Final = 8
"""With fewer, one leak a round would not be more than the noise that is allowed."""
ROUNDS: Final = FEWEST_ROUNDS
"""Whatever grows in so many rounds must also grow in twice as many, so noise is not taken for a leak."""

_ALL: Final = tuple(KINDS)
_UNIX: Final = ("unix_stream", "unix_dgram")

WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "close": _ALL,
    "delete": _ALL,
    "destroy": _ALL,
    "disconnect": ("tcp4", "tcp6", "udp4", "udp6", "unix_dgram"),
    "replace": _ALL,
    "replace-by-itself": _ALL,
    "shutdown": _ALL,
    "peer-closes": _ALL,
    "peer-resets": ("tcp4", "tcp6", "unix_stream", "vsock_stream", "vsock_seqpacket"),
    "owner-killed": _ALL,
    "last-duplicate": _ALL,
    "in-flight": _ALL,
    "in-flight-to-itself": _UNIX,
    "namespace-destroyed": _ALL,
    "program-detached": _ALL,
    "program-replaced": _ALL,
    "link-destroyed": _ALL,
    "unpinned": _ALL,
    "destroyed-referenced": _ALL,
}
"""With the kinds that can go them: others cannot be disconnected, reset, or carry descriptors."""

_FIXED: Final = 15.0
_EACH: Final = 0.1


@cache
def leak_cases() -> tuple[Case, ...]:
    """List the leak cases, of the default length; neighbours share the kind, which is measured without maps once."""
    return tuple(_cases())


def of_length(case: Case, rounds: int) -> Case:
    """Return a case of that many rounds."""
    return replace(case, params={**case.params, "rounds": str(rounds)}, deadline=_FIXED + _EACH * rounds)


def _cases() -> Iterator[Case]:
    for kind in KINDS:
        for way, kinds in WAYS.items():
            if kind in kinds:
                yield of_length(
                    Case(
                        group="leaks",
                        name=f"{way}-{kind}",
                        scenario="conformance.groups.leaks.guest.scenario:run",
                        params={"way": way, "kind": kind},
                    ),
                    ROUNDS,
                )
