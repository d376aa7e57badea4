# SPDX-License-Identifier: GPL-2.0-only
"""The enrolment cases: the five ways a socket gets into a map, each proved by redirecting data through it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = (
    "A socket enters a map in each way this kernel version has, redirects data, and still works for its owner."
)

WARM_UP: Final = frozenset(
    (
        "own-sockhash-tcp4-target-descriptor",
        "scm-sockhash-tcp4-target-keeps",
        "pidfd-plain-sockhash-tcp4-target",
        "sock_ops-plain-sockhash-tcp4-active-target",
        "iterator-copy-sockmap-sockhash-tcp4-target",
        "iterator-all-iter_tcp-sockhash-tcp4-target",
    )
)
"""A case of each way."""

ROLES: Final = ("target", "source")
"""Whether data is redirected to the enrolled socket, or what arrives at it is redirected elsewhere."""

_TCP: Final = ("tcp4", "tcp6")
_STREAMS: Final = ("tcp4", "tcp6", "unix_stream", "vsock_stream")
_CONNECTING: Final = (*_STREAMS, "vsock_seqpacket")
_ITERATORS: Final = {
    "iter_tcp": _TCP,
    "iter_udp": ("udp4", "udp6"),
    "iter_unix": ("unix_stream", "unix_dgram"),
}
_REASONS: Final = ("user", "same-user", "yama", "user-namespace", "bad-descriptor", "dead", "no-socket")


@cache
def enrol_cases() -> tuple[Case, ...]:
    """List the enrolment cases."""
    return (*_own(), *_scm(), *_pidfd(), *_sock_ops(), *_iterator())


def _own() -> Iterator[Case]:
    for map_, kind in product(MAPS, KINDS):
        for role, by in (*product(ROLES, ("descriptor",)), ("target", "duplicate")):
            yield _case("own", map=map_, kind=kind, role=role, by=by)


def _scm() -> Iterator[Case]:
    for map_, kind in product(MAPS, KINDS):
        for role, sender in (*product(ROLES, ("keeps",)), ("target", "closes"), ("target", "exits")):
            yield _case("scm", map=map_, kind=kind, role=role, sender=sender)


def _pidfd() -> Iterator[Case]:
    variants = (
        *((variant, KINDS, ROLES) for variant in ("plain", "owner-closes", "queued", "mapped")),
        ("owner-killed", KINDS, ("source",)),
        ("owner-killed-sending", _STREAMS, ("target",)),
        ("carrying", KINDS, ("source",)),
        ("listener", _CONNECTING, ROLES),
        ("thread", KINDS, ("target",)),
    )
    for variant, kinds, roles in variants:
        for map_, kind, role in product(MAPS, kinds, roles):
            yield _case("pidfd", variant=variant, map=map_, kind=kind, role=role)
    for why in _REASONS:
        yield _case("pidfd-refused", why=why)


def _sock_ops() -> Iterator[Case]:
    plain = ("nested", "outside", "multi", "override", "exclusive", "twice", "occupied", "callbacks")
    for map_, kind in product(MAPS, _TCP):
        for side in ("active", "passive"):
            for variant, role in (*product(("plain", "late"), ROLES), *product(plain, ("target",))):
                yield _case("sock_ops", variant=variant, map=map_, kind=kind, side=side, role=role)
        for data, role in product(("plain", "deferred", "fastopen"), ROLES):
            yield _case("sock_ops", variant="early", map=map_, kind=kind, side="passive", role=role, data=data)
        yield _case("sock_ops", variant="timers", map=map_, kind=kind, side="active", role="target")
        yield _case("sock_ops", variant="unaccepted", map=map_, kind=kind, side="passive", role="target")


def _iterator() -> Iterator[Case]:
    for from_, map_ in product(MAPS, MAPS):
        for kind, role in product(KINDS, ROLES):
            yield _case("iterator", variant="copy", **{"from": from_}, map=map_, kind=kind, role=role)
        for variant in ("changing", "crowded"):
            yield _case("iterator", variant=variant, **{"from": from_}, map=map_, kind="udp4", role="target")
    for map_, (hook, kinds) in product(MAPS, _ITERATORS.items()):
        for kind in kinds:
            for variant, role in (("all", "target"), ("all", "source"), ("churn", "target")):
                yield _case("iterator", variant=variant, hook=hook, map=map_, kind=kind, role=role)
            for variant in ("listener", "time-wait") if hook == "iter_tcp" else ():
                yield _case("iterator", variant=variant, hook=hook, map=map_, kind=kind, role="target")


def _case(way: str, **params: str) -> Case:
    return Case(
        group="enrol",
        name="-".join((way, *params.values())),
        scenario="conformance.groups.enrol.guest.scenario:run",
        params={"way": way, **params},
    )
