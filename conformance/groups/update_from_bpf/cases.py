# SPDX-License-Identifier: GPL-2.0-only
"""Updates from BPF: what the verifier lets each type of program do with a map of sockets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from bpf.guest.contexts import CONTEXTS
from conformance.groups.kinds import MAPS
from conformance.model import Case

PROMISE: Final = (
    "The verifier accepts the programs that may change a map of sockets on this kernel version, and no others."
)

VERDICTS: Final = ("sk_skb", "sk_skb_parser", "sk_skb_verdict", "sk_msg")
"""The programs a map of sockets runs."""

TOPICS: Final = ("packet", "message", "socket", "system")
"""Topics of the helpers that the programs call."""


@cache
def update_from_bpf_cases() -> tuple[Case, ...]:
    """List the cases: every kind of program with every map, then the helpers of the programs maps run."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for program in CONTEXTS:
        for map_ in MAPS:
            params = {"question": "map", "program": program, "map": map_}
            yield _case("scenario:run", f"{map_}-{program}", params)
    for program in VERDICTS:
        for topic in TOPICS:
            params = {"question": "helpers", "program": program, "topic": topic}
            yield _case("scenario:helpers", f"helpers-{program}-{topic}", params)


def _case(scenario: str, name: str, params: dict[str, str]) -> Case:
    return Case(
        group="update_from_bpf",
        name=name,
        scenario=f"conformance.groups.update_from_bpf.guest.{scenario}",
        params=params,
    )
