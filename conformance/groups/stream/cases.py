# SPDX-License-Identifier: GPL-2.0-only
"""The stream cases: whether data arrives completely, in order and once while its sockets are in a map.

A program passes messages, or redirects them to its own socket, to the other end of the connection, or to a socket of
another connection (`layout`). The redirect goes to the target's receive queue (`local`) or out of the target
(`egress`). The questions:

- `verdict`: the program returns different verdicts for successive messages;
- `leave`: messages are read, and then all sockets are deleted from their maps;
- `end`: the peer of a source shuts down, resets or sends an empty datagram, and a second source redirects afterwards;
- `bulk`: hundreds of KiB go through small buffers to a slow reader;
- `order`: some data of a stream is native and some is redirected, and all of it has the same reader;
- `partial`: a part of a message is read before the socket is inserted;
- `records`, `cut`: a parser divides a stream into records, and the stream ends inside a record.

Where the kernel runs the same code for several combinations, one case stands for all of them:

- IPv4 and IPv6. Kinds of targets: the group redirect asks about all of them.
- Map type and mode: local redirects use a SOCKMAP, redirects to egress a SOCKHASH, and parsers always a SOCKMAP.
- Mode and refused messages: for parsers and for other kinds than TCP, each refusal is asked in one mode only.
- Reads of passed or self-redirected data on other kinds than TCP: asked with the reads that failed on most kernels.

Left out, because no kernel allows it: SK_MSG programs and parsers on other kinds than TCP, a local redirect to VSOCK,
an empty message of a stream. Datagram boundaries are left to readiness and ancillary: here messages are joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Final

from conformance.groups.kinds import KINDS, MAPS
from conformance.model import Case

PROMISE: Final = (
    "All data of a stream arrives once and in order, and recv(2) reports the end of the stream, while its sockets are "
    "in a map and after they have left it."
)

_MAP: Final = {"local": "sockmap", "egress": "sockhash"}
MODES: Final = tuple(_MAP)
_REFUSALS: Final = ("drop", "empty", "listener", "ignored-empty", "ignored-listener")
_OF_OTHERS: Final = tuple(
    ("verdict", kind) for kind in ("udp4", "unix_stream", "unix_dgram", "vsock_stream", "vsock_seqpacket")
)


_MSG: Final = ("msg", "tcp4")
_VERDICT: Final = ("verdict", "tcp6")
_PARSER: Final = ("parser", "tcp4")
_OF_TCP: Final = (_MSG, _VERDICT, _PARSER)
_UNIX: Final = ("verdict", "unix_stream")
_VSOCK: Final = ("verdict", "vsock_stream")
_OTHERS: Final = ("other", "other-verdict")
_LOCAL_TARGETS: Final = ("tcp6", "udp4", "unix_stream", "unix_dgram")


@cache
def stream_cases() -> tuple[Case, ...]:
    """List the stream cases."""
    return (*_verdict(), *_leave(), *_end(), *_bulk(), *_order(), *_partial(), *_records())


def _verdict() -> Iterator[Case]:
    for (program, kind), refusal, mode in product((_MSG, _VERDICT), _REFUSALS, MODES):
        yield _case("verdict", program, kind, mode=mode, refusal=refusal)
    for (program, kind), (number, refusal) in product((_PARSER, *_OF_OTHERS), enumerate(_REFUSALS)):
        yield _case("verdict", program, kind, mode=MODES[number % len(MODES)], refusal=refusal)


def _leave() -> Iterator[Case]:
    for program, kind in (*_OF_TCP, *_OF_OTHERS):
        yield _case("leave", program, kind, layout="pass", read=_reads(kind)[-1], sizes="equal")
        if not kind.startswith("vsock"):
            yield _case("leave", program, kind, layout="self", read=_reads(kind)[-1], sizes="shrinking")
    for program, kind in _OF_TCP:
        for layout in ("pass", "self"):
            yield _case("leave", program, kind, layout=layout, read="one", sizes="equal")
        yield _case("leave", program, kind, layout="pass", read="late", sizes="equal")
        for layout in _OTHERS:
            yield _case("leave", program, kind, layout=layout, target="tcp6", read="two", sizes="equal")
    for layout in _OTHERS:
        for target in _LOCAL_TARGETS:
            read = _reads(target)[-1] if target != "tcp6" else "one"
            yield _case("leave", *_VERDICT, layout=layout, target=target, read=read, sizes="equal")
    for program, kind in (_MSG, _VERDICT):
        yield _case("leave", program, kind, mode="egress", layout=_OTHERS[1], target="tcp4", read="one", sizes="equal")


def _reads(kind: str) -> tuple[str, ...]:
    """Return the ways to read a message: recv(2) in two parts would truncate a datagram."""
    return ("one", "two") if KINDS[kind].stream else ("one",)


def _end() -> Iterator[Case]:
    for (program, kind), peer_sends, targets in (
        (_VERDICT, "fin", _LOCAL_TARGETS),
        (_PARSER, "fin", ("tcp6",)),
        (_UNIX, "fin", ("tcp6",)),
        (_VSOCK, "fin", ("tcp6",)),
        (("verdict", "vsock_seqpacket"), "fin", ()),
        (_VERDICT, "reset", ("tcp6", "unix_dgram")),
        (_PARSER, "reset", ("tcp6",)),
        (("verdict", "udp4"), "empty", _LOCAL_TARGETS),
        (("verdict", "unix_dgram"), "empty", ("tcp6", "unix_dgram")),
    ):
        yield _case("end", program, kind, layout="pass", peer_sends=peer_sends)
        for mode in MODES:
            whole = mode == "egress" and targets == _LOCAL_TARGETS
            for target in (*targets, "vsock_stream") if whole else targets:
                yield _case("end", program, kind, mode=mode, layout="other", peer_sends=peer_sends, target=target)


def _bulk() -> Iterator[Case]:
    for program, kind in (_VERDICT, _PARSER, _UNIX, _VSOCK):
        yield _case("bulk", program, kind, layout="pass", size="512")
    for (program, kind), mode, targets in (
        (_MSG, "local", ("tcp6", "unix_stream")),
        (_MSG, "egress", ("tcp6",)),
        (_VERDICT, "local", ("tcp6", "unix_stream")),
        (_VERDICT, "egress", ("tcp6", "unix_stream")),
        (_PARSER, "local", ("tcp6",)),
        (_PARSER, "egress", ("tcp6",)),
        (_UNIX, "local", ("tcp6",)),
        (_UNIX, "egress", ("unix_stream",)),
        (_VSOCK, "local", ("unix_stream",)),
        (_VSOCK, "egress", ("tcp6",)),
    ):
        for target in targets:
            yield _case("bulk", program, kind, mode=mode, layout="other", target=target, size="256")


def _order() -> Iterator[Case]:
    for program, kind in (*_OF_TCP, *_OF_OTHERS):
        if program != "msg":
            yield _case("order", program, kind, layout="pass", when="late")
            yield _case("order", program, kind, layout="other", target="tcp6", when="late")
        if program != "msg" and not kind.startswith("vsock"):
            for when in ("late", "mixed"):
                yield _case("order", program, kind, layout="self", when=when)
    for layout, when in product(("peer", "peer-verdict"), ("late", "mixed")):
        yield _case("order", *_MSG, layout=layout, when=when)


def _partial() -> Iterator[Case]:
    for program, kind in (_VERDICT, _PARSER, _UNIX, _VSOCK):
        yield _case("partial", program, kind, layout="pass")
        yield _case("partial", program, kind, layout="other", target="tcp6")


def _records() -> Iterator[Case]:
    yield _case("records", *_PARSER, layout="pass")
    yield _case("cut", *_PARSER, layout="pass")
    for mode, target in product(MODES, ("tcp6", "unix_stream")):
        yield _case("records", *_PARSER, mode=mode, layout="one", target=target)
        yield _case("cut", *_PARSER, mode=mode, layout="one", target=target)
    for mode in MODES:
        yield _case("records", *_PARSER, mode=mode, layout="two", target="tcp6")


def _case(question: str, program: str, kind: str, *, mode: str = "local", **more: str) -> Case:
    shown = {"question": question, "program": program, "kind": kind, "mode": mode, **more}
    if more.get("layout") == "pass":
        # Passed data is not redirected, so the mode does not matter.
        del shown["mode"]
    # Before 7e96ec0e6605 ("bpf, sockmap: Fix map type error in sock_map_del_link", 6.6) a parser in a SOCKHASH went on
    # after the socket had left. teardown asks about that, and these cases use a SOCKMAP.
    map_ = MAPS[0] if program == "parser" else _MAP[mode]
    params = {"question": question, "program": program, "kind": kind, "mode": mode, "map": map_, **more}
    deadline = 10.0 if question == "bulk" else 1.0
    return Case("stream", "-".join(shown.values()), "conformance.groups.stream.guest.scenario:run", params, deadline)
