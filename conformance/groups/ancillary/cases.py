# SPDX-License-Identifier: GPL-2.0-only
"""The ancillary cases: source addresses, message boundaries, control messages and urgent data of sockets in a map.

`mode` says which program handles the data: none (`member`), a verdict that returns SK_PASS (`pass`), an SK_MSG program
that returns SK_PASS (`msg`), or a program that redirects to another socket of the same kind (`local`, `egress`). In
`zerocopy-send` an SK_MSG program redirects, else a verdict. SOCKMAP and SOCKHASH take turns, and so do IPv4 and IPv6,
because the kernel runs the same code for both. Only `redirect-oob` has each combination: the 64 cells with MSG_OOB of
the kernel's own test `sockmap_redir`, in which a UNIX stream sends two bytes, the last one out of band.

Left out: timestamps, addresses, credentials and urgent data after an SK_MSG program has redirected to a receive queue.
The kernel makes no packet for such data, so no packet can carry them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = (
    "Message boundaries, source addresses, control messages, descriptors in flight, urgent data and zero-copy "
    "notifications are those of a socket that is in no map."
)

WARM_UP: Final = frozenset(
    (
        "datagram-pass-sockmap-udp6",
        "rights-pass-sockmap-unix_stream",
        "options-pass-sockmap-tcp6",
        "redirect-oob-ingress-to-local-sockmap-unix_stream",
    )
)

_TAKEN: Final = ("member", "pass", "local", "egress")
"""The modes for data that a socket receives."""
_DATAGRAMS: Final = ("udp4", "udp6", "unix_dgram")
_UNIX: Final = ("unix_stream", "unix_dgram")
MODES: Final = ("send-to-local", "send-to-egress", "ingress-to-egress", "ingress-to-local")


@cache
def ancillary_cases() -> tuple[Case, ...]:
    """List the ancillary cases."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for what, modes, kinds in (
        ("datagram", _TAKEN, _DATAGRAMS),
        ("options", _TAKEN, ("tcp4", "tcp6", *_DATAGRAMS)),
        ("credentials", _TAKEN, _UNIX),
        ("rights", _TAKEN, _UNIX),
        ("rights-wait", ("drained", "closed"), _UNIX),
        ("oob", ("member", "pass"), ("unix_stream",)),
        ("urgent", ("member", "msg", "pass", "local", "egress"), ("tcp4", "tcp6")),
        ("urgent-inline", ("member", "msg", "pass"), ("tcp4", "tcp6")),
        ("zerocopy-send", ("member", "msg", "pass", "local", "egress"), ("tcp4",)),
        ("zerocopy-receive", ("member", "pass", "local"), ("tcp6",)),
    ):
        for turn, (mode, kind) in enumerate(product(modes, kinds)):
            yield _case(what, mode, MAPS[turn % 2], kind)
    for mode, map_, kind in product(MODES, MAPS, KINDS):
        yield _case("redirect-oob", mode, map_, kind)


def _case(what: str, mode: str, map_: str, kind: str) -> Case:
    return Case(
        group="ancillary",
        name=f"{what}-{mode}-{map_}-{kind}",
        scenario="conformance.groups.ancillary.guest.scenario:run",
        params={"what": what, "mode": mode, "map": map_, "kind": kind},
    )
