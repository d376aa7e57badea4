# SPDX-License-Identifier: GPL-2.0-only
"""The cases with kernel TLS: a TCP socket is inserted into a map, then gets the TLS protocol and keys.

The question `data` is asked for each program with keys for both directions, for sending only and for receiving only.
Not varied, because the kernel runs the same code:

- SOCKMAP and SOCKHASH, IPv4 and IPv6. The kernel builds one table of TLS functions for IPv4 and one for IPv6, in the
  same way. Each program has a case with SOCKMAP and IPv4, and one with SOCKHASH and IPv6;
- versions and ciphers. Every case uses TLS 1.2 with AES-GCM-128, because a map and its programs depend on neither;
- the keys of the other questions. They use keys for both directions, and only the programs that can make a difference.
  `other-socket` needs no keys.

Left out: TLS first and the map second, which the group insert asks (`tls-first`); redirects to and from a socket with
TLS; a program that pushes bytes and corks, which kills no kernel in Debian's archive any more (CVE-2025-38166); a
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
    "If a socket in a map gets TLS keys, it encrypts and decrypts like one outside of maps, or the kernel refuses the "
    "keys. "
    "No byte is lost, and a socket with keys sends no plain text."
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
"""The programs of each question other than `data`."""
_OTHER_SOCKET: Final = ("none", "msg", "drop", "verdict", "parser")
_HANGS: Final = (("delete", "verdict"), ("delete", "parser"))
_SOON: Final = 0.25
"""Deadline, in seconds, of a case that hangs some kernels; on others it takes far less."""


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
    for program in _OTHER_SOCKET:
        yield _case("other-socket", program, "none", "sockmap", "tcp4")


def _case(what: str, program: str, keys: str, map_: str, kind: str) -> Case:
    params = {"what": what, "program": program, "keys": keys, "map": map_, "kind": kind}
    case = Case(
        group="tls",
        name="-".join(params.values()),
        scenario="conformance.groups.tls.guest.scenario:run",
        params=params,
    )
    return replace(case, deadline=_SOON) if (what, program) in _HANGS else case
