# SPDX-License-Identifier: GPL-2.0-only
"""The cases with kernel TLS: a TCP socket is inserted into a map, then gets the TLS protocol and keys.

Each program of the map is asked with keys for both directions, for sending only and for receiving only. Folded into one
case, because the kernel runs the same code:

- SOCKMAP and SOCKHASH, IPv4 and IPv6: the kernel has one table of TLS functions for each of IPv4 and IPv6, which it
  builds the same way. Each program has a case with each of both pairs;
- versions and ciphers: TLS 1.2 with AES-GCM-128 only. A map and its programs see none of them;
- what is asked beside `data` is asked with keys for both directions, and of the programs that can make a difference.
  `stranger` needs no keys.

Left out: TLS first and the map second, which the group insert asks (`tls-first`); redirects to and from a socket with
TLS; a program that pushes bytes and corks, which no kernel in Debian's archive dies of any more (CVE-2025-38166); a
message whose elements wrap around the end of the ring (CVE-2026-64047).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Final

from conformance.model import Case

PROMISE: Final = (
    "A socket in a map that gets TLS keys encrypts and decrypts as outside of maps, or the kernel refuses the keys; "
    "no byte is lost, and none is sent in plain text."
)

PROGRAMS: Final = ("none", "msg", "pop", "cork", "drop", "verdict", "parser")
KEYS: Final = ("both", "send", "receive")
_PLACES: Final = {"both": ("sockmap", "tcp4"), "send": ("sockhash", "tcp6"), "receive": ("sockmap", "tcp4")}
_ASKED: Final = {
    "delete": ("none", "msg", "verdict", "parser"),
    "close": ("none", "msg"),
    "end": ("none", "verdict", "parser"),
    "poll": ("none", "msg", "verdict", "parser"),
}
"""The programs with which a question other than `data` is asked."""
_STRANGER: Final = ("none", "msg", "drop", "verdict", "parser")
_HANGS: Final = (("delete", "verdict"), ("delete", "parser"))
_SOON: Final = 0.25
"""Seconds for a case that hangs some kernels, which need not be waited for long."""


@cache
def tls_cases() -> tuple[Case, ...]:
    """List the cases."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for program, keys in product(PROGRAMS, KEYS):
        yield _case("data", program, keys, *_PLACES[keys])
    for what, programs in _ASKED.items():
        for program in programs:
            yield _case(what, program, "both", "sockmap", "tcp4")
    for program in _STRANGER:
        yield _case("stranger", program, "none", "sockmap", "tcp4")


def _case(what: str, program: str, keys: str, map_: str, kind: str) -> Case:
    params = {"what": what, "program": program, "keys": keys, "map": map_, "kind": kind}
    case = Case(
        group="tls",
        name="-".join(params.values()),
        scenario="conformance.groups.tls.guest.scenario:run",
        params=params,
    )
    return replace(case, deadline=_SOON) if (what, program) in _HANGS else case
