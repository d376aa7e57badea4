# SPDX-License-Identifier: GPL-2.0-only
"""The ancillary cases: what comes with data beside its bytes.

`mode` says what happens to data on its way: it is read from a socket in a map without a program (`member`), a verdict
lets it pass (`pass`), an SK_MSG program lets it pass (`msg`), or a program redirects it to another socket of the same
kind (`local`, `egress`): an SK_MSG program in `zerocopy-send`, else a verdict. Folded into one case, because the kernel
runs the same code: SOCKMAP and SOCKHASH, IPv4 and IPv6, which take turns. Only `redirect-oob` has each combination: the
64 cells with MSG_OOB of the kernel's own test `sockmap_redir`, in which a UNIX stream sends two bytes, the last one out
of band.

Left out: timestamps, addresses, credentials and urgent data of what an SK_MSG program redirects to a receive queue.
Such data never was a packet.
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
"""The modes of cases in which a socket receives data: what the map does with that data."""
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
