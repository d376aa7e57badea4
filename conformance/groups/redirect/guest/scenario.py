# SPDX-License-Identifier: GPL-2.0-only
"""Redirect data from one socket to another by a SOCKMAP or SOCKHASH, and read every socket involved.

IN is the socket whose program runs, OUT the target; each has a peer. In the two send modes IN sends and the program
runs on the way out (sk_msg); in the two ingress modes IN's peer sends and the program runs when IN receives (sk_skb).

Layouts: `plain` (IN in an input map with the program, OUT in an output map), `same_map` (both in one map with the
program), `member` (IN is in another map first), `parser` (stream parser and stream verdict instead of verdict), `self`
(the target is IN), `peer` (the target is IN's peer).
"""

from __future__ import annotations

import random
import socket
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from conformance.groups.redirect.guest.setup import RedirectSetup
from conformance.guestlib import grace, sockets, traffic
from conformance.guestlib.answers import outcome
from conformance.guestlib.fixture import Fixture
from conformance.guestlib.quiesce import renew_fences

PHASES = {
    "byte": (1,),
    "kilobyte": (1024,),
    # Nothing here is large enough for a kernel to split.
    "burst": (1, 1500, 2, 64, 1000, 3, 700, 1, 128, 1400, 17, 512, 5, 1200, 256, 1400),
}
"""Name and message sizes of each phase."""
LAPS = 2
"""How often a message that comes back to the program is redirected again before the program passes it."""
DEADLINE = 4.0
"""Seconds after which a phase that is not quiescent is given up."""
GRACE = 0.5
"""Seconds to look for missing bytes although the kernel seems quiescent: more than twice TCP's shortest timeout."""

_LAST = list(PHASES)[-1]
_MARK = 64
"""Bytes at the end of a message that identify it."""

_TALLY_NAMES = ("pass", "pass_bytes", "drop", "drop_bytes")

_TOTAL = sum(map(sum, PHASES.values()))
_RANDOM = random.Random("sockmap").randbytes(1 << 17)
_BYTES = [bytes((value,)) for value in range(256)]


def run(params: Mapping[str, str]) -> dict[str, Any]:
    """Carry out one case and return its Observation.

    `params`: `map`, `mode`, `in`, `out`, `layout`, see the module. The Observation, all of it JSON:

    - `socket`: `{"in": "ok", "out": "ok"}`, whether each pair could be made, else the errno's name; only `in` with
      the layouts self and peer;
    - `attach`: `[[attach type, "ok" or errno], ...]`, every attempt in order;
    - `insert`: `{"in": "ok", "out": "EOPNOTSUPP"}`, both always attempted; `out` is the target, whichever socket it is;
    - `phases`: empty when one of the above failed, else one for each of `PHASES`: `name`; `sent`, the sizes; `send`,
      what each send() gave, bytes or errno; `runs`, how often the program returned SK_PASS and SK_DROP and for how
      many bytes; `received`, for each of `in`, `in_peer`, `out`, `out_peer` that exists a list with one entry for
      each message received, in order; `settled`, False when the deadline passed before the kernel was quiescent;
    - `errors`: SO_ERROR of each socket at the end, `"ok"` or errno.

    A message received is a list of segments, each `[offset, length]` into the concatenation of what the phase sent, or
    a hex string for bytes it did not send; `[]` has no bytes. `"eof"` is the end of a stream, `"!ECONNRESET"` an error
    of recv(), `"!MSG_TRUNC"` follows a message longer than the buffer.
    """
    with Fixture() as fixture:
        setup = RedirectSetup(params, fixture)
        ready = setup.set_up()
        return {
            "socket": setup.made,
            "attach": setup.attached,
            "insert": setup.inserted,
            "phases": _phases(setup, _content("-".join(params.values()))) if ready else [],
            "errors": {name: traffic.pending_error(end) for name, end in setup.ends.items()} if ready else {},
        }


def _phases(setup: RedirectSetup, content: Iterable[tuple[str, list[bytes]]]) -> list[dict[str, Any]]:
    sockets.let_datagrams_queue(2 * len(PHASES["burst"]))
    flow = _Flow(setup)
    phases = [flow.phase(name, messages, last=name == _LAST) for name, messages in content]
    if not all(phase["settled"] for phase in phases):
        # A stuck fence must not affect the next case.
        renew_fences()
    return phases


class _Flow:
    """Send messages through one setup, read all its sockets until the kernel is at rest, and describe what they got."""

    def __init__(self, setup: RedirectSetup) -> None:
        self._setup, self._state = setup, setup.state
        self._sender = setup.sender
        self._vsock = any(sockets.is_vsock(setup.kind(name)) for name in setup.ends)
        self._tcp = [end for name, end in setup.ends.items() if sockets.is_tcp(setup.kind(name))]
        self._received: dict[str, traffic.Messages] = {name: [] for name in setup.ends}
        self._drains = [
            (end.fileno(), sockets.connects(setup.kind(name)), self._received[name]) for name, end in setup.ends.items()
        ]
        self._before = self._now = self._state.tallies()
        self._accepted = 0
        self._given_up = 0
        """Accepted bytes that were looked for and not found."""

    def phase(self, name: str, messages: Sequence[bytes], *, last: bool) -> dict[str, Any]:
        """Run one phase; nothing is sent after the `last` one. Returns its part of the Observation."""
        self._before = self._now
        self._accepted = self._given_up = 0
        for found in self._received.values():
            found.clear()
        if self._setup.loops:
            answers, settled = self._one_by_one(messages, last=last)
        else:
            answers, settled = [self._send(message) for message in messages], self._settle(messages[-1], last=last)
        sent = traffic.Sent(messages)
        return {
            "name": name,
            "sent": [len(message) for message in messages],
            "send": answers,
            "runs": {
                kind: now - before for kind, now, before in zip(_TALLY_NAMES, self._now, self._before, strict=True)
            },
            "received": {end: sent.describe(found) for end, found in self._received.items()},
            "settled": settled,
        }

    def _one_by_one(self, messages: Sequence[bytes], *, last: bool) -> tuple[list[int | str], bool]:
        """Let each message finish its laps before the next is sent; otherwise they would mix."""
        answers = []
        settled = True
        for number, message in enumerate(messages, start=1):
            self._state.allow(LAPS * len(message))
            answers.append(self._send(message))
            more = number < len(messages)
            settled = self._settle(message, last=last and not more, more=more) and settled
        return answers, settled

    def _send(self, message: bytes) -> int | str:
        count = outcome(self._sender.send, message, socket.MSG_DONTWAIT)
        self._accepted += 0 if isinstance(count, str) else count
        return count

    def _settle(self, message: bytes, *, last: bool, more: bool = False) -> bool:
        """Follow what was sent until nothing moves any more; False if the deadline passed first.

        `message` was sent last so far, and after the `last` one of a case nothing follows; `more` of its phase may.
        """

        def missing() -> int:
            count = self._missing()
            return 0 if count <= self._given_up and self._has_come(message) else count

        rest = traffic.settle(
            self._look,
            missing,
            lambda: self._patience(message, last=last, more=more),
            DEADLINE,
            vsock=self._vsock,
            runs=self._state.tallies,
            busy=lambda: any(traffic.count(end, traffic.UNSENT) for end in self._tcp),
        )
        if rest.waited:
            self._given_up = self._missing()
            grace.gave_up(rest.waited, GRACE)
        return rest.settled

    def _patience(self, message: bytes, *, last: bool, more: bool) -> float:
        """Return the seconds to look for missing bytes at rest: less than GRACE only if no late byte can be missed."""
        if self._given_up and more:
            # The phase has lost data already; other losses are looked for again after its last message.
            return GRACE / 10
        limit = grace.limit()
        if limit >= GRACE or (last and not self._has_come(message)):
            return GRACE
        return limit

    def _has_come(self, message: bytes) -> bool:
        """Whether the end of a message was received, on any socket: then earlier data is lost, not late.

        Every way through the kernel keeps the order. Data that still arrives in a later phase is stray there.
        """
        end = message[-_MARK:]
        return any(
            isinstance(each, bytes) and each.endswith(end) for found in self._received.values() for each in found
        )

    def _look(self) -> None:
        for descriptor, stream, found in self._drains:
            traffic.add(found, traffic.drain(descriptor, stream=stream))
        self._now = self._state.tallies()

    def _missing(self) -> int:
        """Return how many bytes the kernel took that were neither received nor dropped by the program."""
        missing = self._accepted - sum(map(traffic.size_of, self._received.values()))
        # The sender got an error for data that sk_msg dropped.
        return missing if self._setup.sends else missing - self._now[3] + self._before[3]


def _content(case: str) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name and the messages of each phase: random, and no two messages of a case begin alike."""
    # A slice of one random block: seeding a generator for each case would take a quarter of the case's time.
    seed = zlib.crc32(case.encode())
    offset = seed % (len(_RANDOM) - _TOTAL)
    first = seed >> 24
    for name, sizes in PHASES.items():
        messages = []
        for size in sizes:
            messages.append(_BYTES[first] + _RANDOM[offset : offset + size - 1])
            offset += size - 1
            # Odd, so all 256 values occur before one repeats.
            first = (first + 101) % 256
        yield name, messages
