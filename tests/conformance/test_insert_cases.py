# SPDX-License-Identifier: GPL-2.0-only
"""The insertion cases: host and guest agree on them, and the tables have an answer for each."""

from __future__ import annotations

import itertools
from collections import Counter
from itertools import pairwise

import pytest

from conformance.groups.insert import cases as insert
from conformance.groups.insert.cases import insert_cases
from conformance.groups.insert.guest import map as insert_map
from conformance.groups.insert.guest import scenario
from conformance.groups.kinds import KINDS, MAPS
from conformance.guestlib import states
from conformance.judge import steps
from conformance.judge.needs import unmet
from conformance.model import Case, KernelFacts
from kernels.version import Version
from tests.conformance.expectations import answers, deciding, shown, versioned, without_commit

KERNELS = ("5.10.262", "6.1.192", "6.6.14", "6.12.117", "6.18.15", "7.3.4")


def find(name: str) -> Case:
    """Return a case by its name."""
    return next(case for case in insert_cases() if case.name == name)


def test_everything_is_asked_of_both_types_of_map() -> None:
    """A case that vanishes is noticed: each state of each kind, each descriptor, each layer and each topic is there."""
    names = ("question", "map", "kind", "state", "what", "layer", "about")
    asked = Counter(tuple(case.params.get(name, "") for name in names) for case in insert_cases())
    wanted = [
        *(("socket", kind, state, "", "", "") for kind, states_ in insert.STATES.items() for state in states_),
        *(("descriptor", "", "", what, "", "") for what in insert.NO_SOCKETS),
        *(("layer", kind, "", "", layer, "") for layer, kinds in insert.LAYERS.items() for kind in kinds),
        *(("map", "", "", "", "", about) for about in insert.ABOUT),
    ]
    keys = [("map", "sockhash", "", "", "", "", f"keys-of-{size}") for size in insert.KEY_SIZES]

    assert asked == Counter([*((each[0], map_, *each[1:]) for each in wanted for map_ in MAPS), *keys])


def test_the_guest_knows_every_state_kind_and_topic_and_has_none_that_nobody_asks_for() -> None:
    """The lists on both sides are the same."""
    assert {state for kind in insert.STATES.values() for state in kind} == {*states._STATES, *states._OF_PAIR}
    assert set(insert.STATES) == {*states._SORTS, *KINDS}
    assert set(insert.NO_SOCKETS) == set(scenario._DESCRIPTORS)
    assert set(insert.LAYERS) == set(scenario._LAYERS)
    assert {*insert.ABOUT, *(f"keys-of-{size}" for size in insert.KEY_SIZES)} == set(insert_map.ABOUT)


@pytest.mark.parametrize("version", KERNELS)
def test_every_case_has_expectations(version: str) -> None:
    """The tables decide each case on every kernel."""
    assert not [case.name for case in insert_cases() if not answers(case, version)]


def test_every_row_decides_something_on_some_kernel() -> None:
    """Every row decides a case on some kernel."""
    rules = itertools.chain.from_iterable(steps.table("insert").rules.values())
    assert {rule.id for rule in rules} == deciding("insert", (*KERNELS, "5.15.1", "6.4"))


def test_what_depends_on_the_version_cites_a_commit_with_its_subject() -> None:
    """A version-dependent row without a commit cannot be checked."""
    rows = list(versioned("insert"))
    assert len(rows) >= 12
    assert without_commit(rows) == []


@pytest.mark.parametrize(
    ("name", "step", "changes"),
    [
        ("sockmap-udp4-fresh", "insert", "5.10.262 EOPNOTSUPP, 5.15.1 ok, 6.1.182 ok, 6.1.183 EOPNOTSUPP"),
        ("sockmap-udp6-disconnected", "insert", "6.12.100 ok, 6.12.101 EOPNOTSUPP, 6.18.15 ok, 6.18.42 EOPNOTSUPP"),
        ("sockhash-udp4-bound", "insert", "5.10.262 ok, 7.3.4 ok"),
        ("sockmap-unix_stream-established", "insert", "5.10.262 EOPNOTSUPP, 5.15.1 ok, 7.3.4 ok"),
        ("sockmap-unix_stream-listening", "insert", "5.10.262 EOPNOTSUPP, 5.15.1 ok, 6.1.71 ok, 6.1.72 EOPNOTSUPP"),
        ("sockmap-vsock_stream-fresh", "insert", "6.1.192 EOPNOTSUPP, 6.6.79 ENODEV, 6.6.80 EOPNOTSUPP"),
        ("sockmap-vsock_seqpacket-fresh", "make", "5.10.262 ESOCKTNOSUPPORT, 6.1.192 ok"),
        ("sockhash-udplite6-bound", "make", "6.18.15 ok, 7.3.4 EPROTONOSUPPORT"),
        (
            "sockmap-tcp4-tls-second",
            "send keys",
            "6.1.188 ok, 6.1.189 EINVAL, 6.18.15 ok, 6.18.53 EINVAL, 7.3.4 EINVAL",
        ),
        (
            "sockhash-mptcp4-sock-ops",
            "passive",
            "5.10.262 ok, 6.1.158 EINVAL, 6.1.159 EOPNOTSUPP, 6.12.43 EINVAL, 6.18.15 EOPNOTSUPP",
        ),
        ("sockmap-map-frozen", "again", "6.1.192 EBUSY, 6.12.117 EPERM"),
        ("sockmap-map-order", "closed, flag of a CPU", "6.18.15 EBADF, 7.3.4 EINVAL"),
    ],
)
def test_where_answers_change(name: str, step: str, changes: str) -> None:
    """The expected answers match those of real kernels, on both sides of every change."""
    points = [point.split() for point in changes.split(", ")]
    assert [shown(find(name), version)[step] for version, _ in points] == [answer for _, answer in points]
    assert all(Version.parse(before) < Version.parse(after) for (before, _), (after, _) in pairwise(points))


def test_what_cannot_be_made_is_not_inserted() -> None:
    """Without such a socket no further step is expected."""
    assert answers(find("sockmap-vsock_dgram-fresh"), "6.12.117") == {"make": "ENODEV"}
    assert answers(find("sockmap-udplite4-bound"), "7.3.4") == {"make": "EPROTONOSUPPORT"}
    assert answers(find("sockhash-vsock_seqpacket-established"), "5.10.262") == {"make": "ESOCKTNOSUPPORT"}


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("MPTCP", "sockmap-mptcp4-fresh"),
        ("MPTCP", "sockmap-mptcp6-sock-ops"),
        ("TLS", "sockhash-tcp4-tls-first"),
        ("AF_KCM", "sockhash-tcp6-kcm-second"),
        ("VSOCKETS_LOOPBACK", "sockmap-vsock_stream-fresh"),
        ("IPV6", "sockmap-raw6-fresh"),
    ],
)
def test_a_kernel_without_the_symbol_is_not_asked(missing: str, name: str) -> None:
    """A case that needs a missing symbol is skipped, and the symbol is named."""
    case = find(name)
    symbols = "BPF_SYSCALL BPF_STREAM_PARSER INET IPV6 UNIX VSOCKETS VSOCKETS_LOOPBACK MPTCP MPTCP_IPV6 TLS CRYPTO_GCM"
    everything = dict.fromkeys(f"{symbols} AF_KCM CGROUP_BPF".split(), "y")
    assert unmet(case, KernelFacts(Version.parse("6.12.117"), everything)) is None
    lacking = KernelFacts(Version.parse("6.12.117"), everything | {missing: "n"})
    assert f"CONFIG_{missing} is not set" in str(unmet(case, lacking))
