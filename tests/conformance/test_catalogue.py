# SPDX-License-Identifier: GPL-2.0-only
"""The list of cases."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from conformance import groups
from conformance.groups import GROUPS, cases
from conformance.groups.kinds import FAMILIES, KINDS, MAPS
from conformance.groups.redirect.cases import LAYOUTS, MODES, PLAIN, redirect_cases, roles


def test_the_redirect_matrix_is_whole() -> None:
    """Every IN kind meets every OUT kind in every mode and map; each layout adds a case for each of its own modes."""
    names = ("layout", "mode", "map", "in", "out")
    asked = Counter(tuple(case.params[name] for name in names) for case in redirect_cases())
    plain = itertools.product([PLAIN], MODES, MAPS, KINDS, KINDS)
    extras = (
        (layout, mode, map_, kind, kind)
        for layout in LAYOUTS.keys() - {PLAIN}
        for mode, map_, kind in itertools.product(LAYOUTS[layout].modes, MAPS, KINDS)
    )

    assert asked == Counter([*plain, *extras])
    assert sum(layout == PLAIN for layout, *_ in asked) == 512
    assert all(layout.words for name, layout in LAYOUTS.items() if name != PLAIN)


def test_each_folder_of_a_group_is_a_group() -> None:
    """A group that is written, but not listed, would ask nothing."""
    folders = {path.parent.name for path in Path(groups.__file__).parent.glob("*/cases.py")}
    assert folders == set(GROUPS) == {case.group for case in cases()}


def test_ids_are_unique_and_plain_enough_for_every_format() -> None:
    """An id serves as node id, file name and anchor, so it is `[a-z0-9_.-]` and names one case."""
    ids = [case.id for case in cases()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z_]+/[a-z0-9_.-]+", id_) for id_ in ids)


def test_names_say_map_mode_in_and_out_or_layout() -> None:
    """Names are stable: scripts and allow lists use them."""
    names = [case.name for case in redirect_cases()]
    assert names[0] == "sockmap-send-to-local-tcp4-tcp4"
    assert "sockhash-ingress-to-egress-vsock_seqpacket-unix_dgram" in names
    assert "sockmap-ingress-to-local-udp6-parser" in names
    assert "sockmap-send-to-local-tcp4-parser" not in names


def test_neighbours_share_the_program_and_the_map() -> None:
    """A contiguous shard loads few programs: mode and map type change 7 times in the whole list."""
    pairs = [(case.params["mode"], case.params["map"]) for case in redirect_cases()]
    assert sum(before != after for before, after in pairwise(pairs)) == 7


def test_an_extra_layout_is_about_one_kind() -> None:
    """In every layout but the plain one OUT is of IN's kind."""
    assert all(case.params["in"] == case.params["out"] for case in redirect_cases() if case.params["layout"] != "plain")


def test_parser_is_asked_where_a_parser_can_run() -> None:
    """A stream parser runs only for what a socket receives."""
    modes = {case.params["mode"] for case in redirect_cases() if case.params["layout"] == "parser"}
    assert modes == {"ingress-to-egress", "ingress-to-local"}


def test_kinds_and_families() -> None:
    """Families hold all kinds, each once, so that a rule for a family misses none."""
    assert [kind for family in FAMILIES.values() for kind in family] == list(KINDS)
    assert FAMILIES["vsock"] == ("vsock_stream", "vsock_seqpacket")


def test_roles_follow_the_layout() -> None:
    """If the target is IN or its peer, there is no second pair."""
    assert roles("plain") == roles("parser") == ("in", "in_peer", "out", "out_peer")
    assert set(roles("self")) == set(roles("peer")) == {"in", "in_peer"}
    assert MODES["send-to-local"].native == "in_peer"
    assert MODES["ingress-to-local"].native == "in"
