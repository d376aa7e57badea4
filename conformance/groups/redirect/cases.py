# SPDX-License-Identifier: GPL-2.0-only
"""The redirect cases; a mode or a layout is one line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = (
    "Data redirected from IN reaches the sockets this kernel version promises and no others, unchanged and in order."
)

WARM_UP: Final = frozenset(
    (
        *(f"sockmap-ingress-to-egress-{kind}-{kind}" for kind in KINDS),
        *(f"sockhash-send-to-local-{kind}-{kind}" for kind in KINDS),
        *(
            f"sockhash-ingress-to-local-{kind}-{layout}"
            for kind in ("tcp4", "unix_dgram")
            for layout in ("same_map", "parser", "self", "peer")
        ),
    )
)
"""A case of each kind, and of each layout with maps, programs or targets of its own."""

SCENARIO: Final = "conformance.groups.redirect.guest.scenario:run"


@dataclass(frozen=True, slots=True)
class Mode:
    """One redirect mode: which role sends, and which role receives without the program."""

    sender: str
    """The role that sends: `in` with SK_MSG, for what IN sends; `in_peer` with SK_SKB, for what IN receives."""
    native: str
    """The role that receives when no program runs."""


_SEND: Final = Mode(sender="in", native="in_peer")
_INGRESS: Final = Mode(sender="in_peer", native="in")

MODES: Final[Mapping[str, Mode]] = {
    "send-to-local": _SEND,
    "send-to-egress": _SEND,
    "ingress-to-egress": _INGRESS,
    "ingress-to-local": _INGRESS,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the four sockets and the two maps are arranged; roles are `in`, `in_peer`, `out`, `out_peer`."""

    target: str = "out"
    """The role that is the redirect target."""
    target_peer: str = "out_peer"
    """The role at the target's other end."""
    modes: tuple[str, ...] = tuple(MODES)
    """The modes in which the layout makes sense."""
    words: str = ""
    """What the layout is, for the legend of the grids."""


PLAIN: Final = "plain"

LAYOUTS: Final[Mapping[str, Layout]] = {
    PLAIN: Layout(),
    "same_map": Layout(words="IN and OUT in one map"),
    "member": Layout(words="IN in a map without programs first"),
    "parser": Layout(
        modes=tuple(name for name, mode in MODES.items() if mode is _INGRESS), words="stream parser and stream verdict"
    ),
    "self": Layout(target="in", target_peer="in_peer", words="OUT is IN"),
    "peer": Layout(target="in_peer", target_peer="in", words="OUT is IN's peer"),
}


def roles(layout: str) -> tuple[str, ...]:
    """List the sockets of a layout by role, IN first."""
    arranged = LAYOUTS[layout]
    return tuple(dict.fromkeys(("in", "in_peer", arranged.target, arranged.target_peer)))


@cache
def redirect_cases() -> tuple[Case, ...]:
    """List the redirect cases; adjacent cases share program, map type and IN kind."""
    return tuple(_redirect())


def _redirect() -> Iterator[Case]:
    for mode in MODES:
        extras = [name for name, layout in LAYOUTS.items() if name != PLAIN and mode in layout.modes]
        for map_ in MAPS:
            for in_ in KINDS:
                for out in KINDS:
                    yield _redirect_case(map_, mode, in_, out, PLAIN)
                for layout in extras:
                    yield _redirect_case(map_, mode, in_, in_, layout)


def _redirect_case(map_: str, mode: str, in_: str, out: str, layout: str) -> Case:
    name = f"{map_}-{mode}-{in_}-{out if layout == PLAIN else layout}"
    params = {"map": map_, "mode": mode, "in": in_, "out": out, "layout": layout}
    return Case(group="redirect", name=name, scenario=SCENARIO, params=params)
