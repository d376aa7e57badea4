# SPDX-License-Identifier: GPL-2.0-only
"""The cases about programs that change a message or a packet, and that say how long their verdict holds.

A case varies only what makes a difference in the kernel. These are not varied:

- the socket of an SK_MSG program is TCP over IPv4. UDP, UNIX and VSOCK sockets run no such program, and TCP over IPv6
  has the same sendmsg(), by tcp_bpf_rebuild_protos();
- the map is a sockmap: once a socket is in a map, the type of the map makes no difference;
- a place in a message stands for its class: the beginning, inside the first element, between two elements, inside a
  middle element, inside the last element, the end, beyond the end. The places fit a message of three elements of four
  bytes, and the same places are used for a message of one element;
- SK_SKB verdicts run on each kind of socket, because each protocol makes packets of its own. Cases with a redirect use
  three kinds only, because a redirect does not change the packet.

Left out: two threads that cork on one socket (CVE-2026-68284) and a target that is closed during a redirect
(CVE-2026-74589), which need a race; a failed allocation (CVE-2025-39913), which needs fault injection; kernel TLS on a
socket in a map (CVE-2025-38608), which the group tls asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from conformance.groups.kinds import KINDS
from conformance.model import Case

PROMISE: Final = (
    "A program that changes a message or packet changes exactly the bytes that it names; every other byte arrives once "
    "and in order."
)

WARM_UP: Final = frozenset(("change-push-4-3-apart", "packet-tcp4-pull-12-pass"))
"""One case for each program."""

_PLACES: Final = {
    "push": ("0+3", "2+3", "4+3", "6+3", "12+3", "13+3", "4+0"),
    "pop": ("0+2", "0+4", "2+4", "4+4", "5+2", "6+6", "3+7", "0+12", "11+2", "12+1", "4+0"),
    "pull": ("0..12", "2..9", "5..7", "4..8", "11..12", "5..20", "9..3"),
}
_SHARED: Final = {
    "push": ("0+3", "2+3", "4+3", "6+3", "12+3"),
    "pop": ("0+2", "2+4", "4+4", "3+7"),
    "pull": ("0..12", "2..9", "5..7"),
}
"""The places in a message from a file. Kernels before 6.5 put the pages of the file into the message."""
_FULL: Final = {"push": ("0+3", "8+3", "17+3"), "pop": ("0+1", "3+5", "16+1"), "pull": ("0..17", "4..9")}
_LARGE: Final = {"push": ("0+3", "65536+3"), "pop": ("30000+10000", "0+65000")}
_FLAGGED: Final = {"push-flag": "4+3", "pop-flag": "4+3", "pull-flag": "4..8"}
_OVERFLOWS: Final = (
    ("pop", "1+4294967295", "one"), ("pop", "1+4294967295", "apart"), ("pop", "4294967295+1", "one"),
    ("push", "4+4294967295", "one"), ("push", "4294967295+3", "one"), ("push", "0+4294967294", "full-wide"),
    ("pull", "4..4294967295", "one"),
)  # fmt: skip
_HEADERS: Final = (("16", "one"), ("28", "one"), ("70", "one"), ("28", "apart"))
"""Sizes of the headers that Kmesh and OBI push."""
_WRITES: Final = ("write", "pull-write", "push-write", "push-pull-write", "split-pull-write", "pop-pull-write")
_SPLICED: Final = (*product(("sendfile",), _WRITES), *product(("splice",), ("write", "push-pull-write")))
_APPLIED: Final = (
    *product(("pass", "local", "egress"), (("3", "8.1"), ("1", "8"), ("8", "8"), ("12", "8.8.8"))),
    *product(
        ("drop", "pass-drop", "local-drop", "egress-drop", "local-pass", "pass-local", "egress-pass", "pass-egress"),
        (("3", "8"),),
    ),
)
_CORKED: Final = (
    *product(("pass", "drop", "local", "egress", "apply", "delete"), (("10", "4.4.4"),)),
    ("pass", ("10", "12")),
    *product(("pass",), (("10", "4.8"), ("10000", "4000.4000.4000"))),
    *product(("local", "egress"), (("10000", "4000.4000.4000"), ("40000", "16000.16000.16000"))),
    ("pass", ("40000", "16000.16000.16000")),
)
_PACKETS: Final = (
    *product(("tail",), ("8", "16", "0")),
    *product(("room",), ("-4", "4")),
    *product(("pull",), ("12", "13")),
)
_SHRINKING: Final = (("tail", "8"), ("tail", "0"), ("room", "-4"), ("room", "-12"))
_REFUSED: Final = (("tail", "100000"), ("room", "-13"), ("room", "5000"))
_REDIRECTED: Final = ("tcp4", "udp4", "unix_stream")
_PACKET_KINDS: Final = tuple(kind for kind in KINDS if not kind.endswith("6"))


@cache
def shape_cases() -> tuple[Case, ...]:
    """List the cases."""
    return (*_messages(), *_verdicts(), *_packets())


def _messages() -> Iterator[Case]:
    for helper, places in _PLACES.items():
        for at, form in product(places, ("one", "apart")):
            yield _change(helper, at, form)
        yield from (_change(helper, at, "file-apart") for at in _SHARED[helper])
        yield _change(helper, places[2], "vector")
    for form, table in (("full", _FULL), ("large", _LARGE)):
        for helper, places in table.items():
            yield from (_change(helper, at, form) for at in places)
    for helper, at in _FLAGGED.items():
        yield _change(helper, at, "apart")
    for helper, at, form in _OVERFLOWS:
        params = {"helper": helper, "at": at, "form": form}
        yield _case("message:overflow", f"overflow-{helper}-{_named(at)}-{form}", **params)
    for size, form in _HEADERS:
        yield _case("message:header", f"header-{size}-{form}", bytes=size, helper="push", form=form)
    for form in ("one", "vector", "apart", "file", "file-apart", "full", "large"):
        yield _case("message:visible", f"visible-{form}", form=form)
    for way, does in _SPLICED:
        yield _case("message:spliced", f"spliced-{way}-{does}", way=way, does=does)


def _verdicts() -> Iterator[Case]:
    for verdicts, (count, sends) in _APPLIED:
        params = {"verdicts": verdicts, "bytes": count, "sends": sends}
        yield _case("message:applied", f"applied-{count}-{sends}-{verdicts}", **params)
    for verdict, (count, sends) in _CORKED:
        params = {"to": verdict, "bytes": count, "sends": sends}
        yield _case("message:corked", f"corked-{count}-{sends}-{verdict}", **params)
    yield _case("message:overfull", "overfull-18", pieces="18")
    yield _case("message:dead", "dead-1", bytes="1")


def _packets() -> Iterator[Case]:
    for kind, (helper, value) in product(_PACKET_KINDS, _PACKETS):
        yield _packet(kind, helper, value, "pass")
    for kind, (helper, value) in product(("tcp4", "unix_dgram"), _REFUSED):
        yield _packet(kind, helper, value, "pass")
    yield _packet("tcp4", "room", "-12", "pass")
    for kind, (helper, value), verdict in product(_REDIRECTED, (("tail", "8"), ("room", "4")), ("local", "egress")):
        yield _packet(kind, helper, value, verdict)


def _change(helper: str, at: str, form: str) -> Case:
    name = f"change-{helper}-{_named(at)}-{form}"
    return _case("message:change", name, helper=helper, at=at, form=form)


def _packet(kind: str, helper: str, value: str, verdict: str) -> Case:
    # With a wrong copied_seq, the kernel warns when the socket leaves the map, and the clone is lost for other cases.
    warns = kind == "tcp4" and (helper, value) in _SHRINKING and (helper, value, verdict) != ("tail", "8", "pass")
    params = {"kind": kind, "helper": helper, "value": value, "to": verdict, "leaves": "no" if warns else "yes"}
    return _case("packet:packet", f"packet-{kind}-{helper}-{value}-{verdict}", **params)


def _named(at: str) -> str:
    return at.replace("..", "-").replace("+", "-")


def _case(scenario: str, name: str, **params: str) -> Case:
    params = {"question": scenario.partition(":")[2], **params}
    return Case(group="shape", name=name, scenario=f"conformance.groups.shape.guest.{scenario}", params=params)
