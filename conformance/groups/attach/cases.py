# SPDX-License-Identifier: GPL-2.0-only
"""The attachment cases: which map accepts which program, what holds it, and which program a socket runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from bpf.guest.contexts import CONTEXTS
from conformance.groups.kinds import MAPS
from conformance.model import Case

PROMISE: Final = (
    "A program attaches to the maps this kernel version allows, stays attached, and runs for the map's sockets."
)

TYPES: Final = {
    "msg": "sk_msg_verdict",
    "parser": "sk_skb_stream_parser",
    "stream": "sk_skb_stream_verdict",
    "verdict": "sk_skb_verdict",
}
"""Each attach type, by a short name."""
RIVALS: Final = {"stream", "verdict"}
WAYS: Final = ("hand", "link")
WRONG_TARGETS: Final = ("array", "map_of_sockmaps", "program", "socket", "pipe", "closed", "none")
LINKS: Final = ("live", "update", "detach", "hold", "pinned")
PARSERS: Final = (
    "nothing", "load_bytes", "read", "pull_data", "change_tail", "change_head", "adjust_room", "store_bytes", "write",
    "tail_call", "subprogram",
)  # fmt: skip
SETS: Final = (
    "none", "msg", "parser", "stream_verdict", "verdict", "parser_stream_verdict", "parser_verdict", "msg_verdict",
)  # fmt: skip
KINDS: Final = ("tcp4", "udp4", "unix_stream", "unix_dgram", "vsock_stream", "vsock_seqpacket")
CHANGES: Final = ("attach", "replace", "detach", "link_update", "link_detach")
DEPARTURES: Final = ("with", "without", "detached")


@cache
def attach_cases() -> tuple[Case, ...]:
    """List the attachment cases."""
    return (*_places(), *_links(), *_effects())


def _places() -> Iterator[Case]:
    for program, map_ in product(CONTEXTS, MAPS):
        yield _case("scenario:types", f"types-{map_}-{program}", program=program, map=map_)
    for map_, first, second, one, other in product(MAPS, TYPES, TYPES, WAYS, WAYS):
        ways = f"{one}-{other}"
        pair = "same" if first == second else "rivals" if {first, second} == RIVALS else "apart"
        name = f"pair-{map_}-{first}-{second}-{ways}"
        yield _case("scenario:pair", name, pair=pair, first=TYPES[first], second=TYPES[second], by=ways, map=map_)
    for map_, short in product(MAPS, TYPES):
        yield _case("scenario:by_hand", f"hand-{map_}-{short}", attach=TYPES[short], map=map_)
    for short, what in product(TYPES, WRONG_TARGETS):
        yield _case("scenario:targets", f"target-{what}-{short}", attach=TYPES[short], what=what)
    for map_, does in product(MAPS, PARSERS):
        yield _case("scenario:parser", f"parser-{map_}-{does}", does=does, map=map_)


def _links() -> Iterator[Case]:
    for function, map_, short in product(LINKS, MAPS, TYPES):
        yield _case(f"link:{function}", f"link-{function}-{map_}-{short}", attach=TYPES[short], map=map_)


def _effects() -> Iterator[Case]:
    for one, other in (MAPS, MAPS[::-1]):
        for first, kind in product(SETS, KINDS):
            maps = f"{one}-{other}"
            yield _case("effect:conflict", f"conflict-{maps}-{kind}-{first}", first=first, kind=kind, maps=maps)
    for map_, short in product(MAPS, TYPES):
        # Only TCP has parsers and runs SK_MSG programs.
        for kind in KINDS if short in ("stream", "verdict") else KINDS[:1]:
            for change in CHANGES:
                name = f"frozen-{map_}-{kind}-{short}-{change}"
                yield _case("effect:frozen", name, attach=TYPES[short], kind=kind, map=map_, change=change)
            for way in DEPARTURES:
                name = f"leave-{map_}-{kind}-{short}-{way}"
                yield _case("effect:leave", name, attach=TYPES[short], kind=kind, map=map_, way=way)


def _case(scenario: str, name: str, **params: str) -> Case:
    params = {"question": scenario.partition(":")[2], **params}
    return Case(group="attach", name=name, scenario=f"conformance.groups.attach.guest.{scenario}", params=params)
