# SPDX-License-Identifier: GPL-2.0-only
"""Sentences for all differences between an observation and an outcome, expected value first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, pairwise

from conformance.groups.kinds import KINDS
from conformance.groups.redirect.cases import LAYOUTS, MODES
from conformance.groups.redirect.expectation import Expectation
from conformance.groups.redirect.outcomes import Outcome, ProgramRuns, Where
from conformance.groups.redirect.seen import Message, Phase, Seen

Params = Mapping[str, str]
Span = tuple[int, int]


class Boundaries(StrEnum):
    """How boundaries between messages arrive."""

    KEPT = "kept"
    """One message received for each message sent."""
    MERGED = "merged"
    """A received message is one or more whole messages: sk_msg_recvmsg() reads over queued messages."""
    FREE = "free"
    """Arbitrary, because the data passed a stream."""


def setup_differences(expected: Expectation, seen: Seen) -> Iterator[str]:
    """Compare the creation of sockets, attaching and inserting, up to the first difference."""
    if expected.sockets != seen.sockets:
        yield from _compare_each("making the sockets of", expected.sockets, seen.sockets)
    elif expected.attach != seen.attach:
        yield f"wanted attaching to give {_attempts(expected.attach)}, got {_attempts(seen.attach)}"
    else:
        yield from _compare_each("inserting", expected.insert, seen.insert)


def flow_differences(params: Params, outcome: Outcome, seen: Seen) -> Iterator[str]:
    """Compare every phase, and the errors left on the sockets."""
    for number, phase in enumerate(seen.phases):
        for difference in _phase(params, outcome, phase, first=number == 0):
            yield f"{phase.name}: {difference}"
    yield from _compare_each("SO_ERROR of", dict.fromkeys(seen.errors, "ok"), seen.errors)


def receiver(params: Params, outcome: Outcome) -> str | None:
    """Return the role that receives the data in an outcome, None if none does."""
    if outcome.where is Where.NOWHERE:
        return None
    if outcome.where is Where.NATIVE:
        return MODES[params["mode"]].native
    layout = LAYOUTS[params["layout"]]
    return layout.target if params["mode"].endswith("-to-local") else layout.target_peer


def _attempts(attempts: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{kind} {result}" for kind, result in attempts) or "nothing"


def _compare_each(what: str, wanted: Mapping[str, str], got: Mapping[str, str]) -> Iterator[str]:
    for role in dict.fromkeys((*wanted, *got)):
        if wanted.get(role) != got.get(role):
            yield f"wanted {what} {role} to give {wanted.get(role, 'nothing')}, got {got.get(role, 'nothing')}"


def _phase(params: Params, outcome: Outcome, phase: Phase, *, first: bool) -> Iterator[str]:
    yield from _sends(outcome, phase)
    yield from _runs(params, outcome, phase, first=first)
    yield from _arrivals(params, outcome, phase)
    if not phase.settled:
        yield "wanted the kernel to process all data, but it was still working at the deadline"


def _sends(outcome: Outcome, phase: Phase) -> Iterator[str]:
    failed = Counter(result for result in phase.send if isinstance(result, str) and outcome.send == "ok")
    reported: set[str] = set()
    for number, (size, result) in enumerate(zip(phase.sent, phase.send, strict=True), 1):
        if isinstance(result, str) and failed[result] > 1:
            if result not in reported:
                yield f"wanted sends to return the byte count, {failed[result]} of {len(phase.sent)} returned {result}"
            reported.add(result)
            continue
        wanted = size if outcome.send == "ok" else outcome.send
        if result != wanted:
            yield f"wanted send {number} of {len(phase.sent)} to give {wanted}, got {result}"


def _runs(params: Params, outcome: Outcome, phase: Phase, *, first: bool) -> Iterator[str]:
    least, most, size = _wanted_runs(params, outcome, phase, first=first)
    dropping = outcome.runs in (ProgramRuns.DROP, ProgramRuns.DROP_ONCE)
    got = phase.runs
    sides = (("PASS", got.passed, got.passed_bytes, not dropping), ("DROP", got.dropped, got.dropped_bytes, dropping))
    for verdict, runs, seen_size, concerned in sides:
        low, high, wanted_size = (least, most, size) if concerned else (0, 0, 0)
        if not low <= runs <= high:
            times = str(low) if low == high else f"{low} to {high}"
            yield f"wanted the program to run {times} times with verdict {verdict}, got {runs}"
        if seen_size != wanted_size:
            yield f"wanted the program to see {wanted_size} bytes with verdict {verdict}, got {seen_size}"


def _wanted_runs(params: Params, outcome: Outcome, phase: Phase, *, first: bool) -> tuple[int, int, int]:
    """Return the least and the most runs of the program, and the bytes it sees."""
    if outcome.runs is ProgramRuns.NEVER or (outcome.runs is ProgramRuns.DROP_ONCE and not first):
        return 0, 0, 0
    if outcome.runs is ProgramRuns.DROP_ONCE:
        return 1, 1, phase.sent[0]
    # SK_MSG runs once for each send, SK_SKB once for each skb: a stream may put several messages into one.
    merging = params["mode"].startswith("ingress-") and KINDS[params["in"]].stream
    most = len(phase.sent)
    return outcome.laps * (1 if merging else most), outcome.laps * most, outcome.laps * phase.total


def _arrivals(params: Params, outcome: Outcome, phase: Phase) -> Iterator[str]:
    wanted = receiver(params, outcome)
    if wanted is None and not any(phase.received.values()):
        return
    flat = {role: _flatten(messages) for role, messages in phase.received.items()}
    for role, messages in phase.received.items():
        yield from _foreign(role, messages)
    arrived = flat.get(wanted or "", [])
    elsewhere = [span for role, spans in flat.items() if role != wanted for span in spans]
    if wanted:
        due = [(0, phase.total)]
        for span in _subtract(_subtract(due, arrived), elsewhere):
            yield _loss(wanted, span, phase, arrived)
        for span in _repeated(arrived):
            yield f"wanted bytes {_range(span)} once on {wanted}, got them again: duplicated"
        if any(after[0] < before[0] for before, after in pairwise(arrived)):
            yield f"wanted {wanted} to receive in the order sent, got {', '.join(map(_range, arrived))}: reordered"
    for role in phase.received:
        if role != wanted and flat[role]:
            yield _elsewhere(role, wanted, flat[role], arrived)
    if wanted and _whole(arrived, phase.total):
        yield from _boundaries(_boundary(params, outcome, wanted), wanted, phase)


def _foreign(role: str, messages: Iterable[Message]) -> Iterator[str]:
    """Yield a sentence for data that was not sent in this phase."""
    for message in messages:
        if isinstance(message, str):
            what = "the end of the stream" if message == "eof" else message.removeprefix("!")
            yield f"wanted {role} to stay open and without error, got {what}"
        elif not message:
            yield f"wanted no empty message on {role}, got one: stray"
        else:
            for part in message:
                if isinstance(part, str):
                    yield f"wanted only bytes that were sent on {role}, got {part}: stray or corrupted"


def _loss(role: str, span: Span, phase: Phase, arrived: Sequence[Span]) -> str:
    """Return a sentence for missing bytes: cut off the end of a message, or lost."""
    begin, end = span
    ends = list(accumulate(phase.sent))
    starts = [0, *ends[:-1]]
    cut = begin not in starts and end in ends and any(arrived_end == begin for _, arrived_end in arrived)
    return f"wanted bytes {_range(span)} on {role}, got them nowhere: {'truncated' if cut else 'lost'}"


def _elsewhere(role: str, wanted: str | None, spans: Sequence[Span], arrived: Sequence[Span]) -> str:
    got = f"wanted nothing on {role}, got bytes {', '.join(map(_range, spans))}"
    if wanted is None:
        return f"{got}: stray"
    if _subtract(spans, arrived):
        return f"{got} meant for {wanted}: misdelivered"
    return f"{got}: a stray copy of what {wanted} got"


def _boundary(params: Params, outcome: Outcome, role: str) -> Boundaries:
    """Return how boundaries arrive at a socket."""
    kind = KINDS[params["in" if role.startswith("in") else "out"]]
    from_stream = params["mode"].startswith("ingress-") and KINDS[params["in"]].stream
    # Data that the program passes in the end is queued like a redirect to the receive side.
    local = outcome.where is Where.MODE and (params["mode"].endswith("-to-local") or outcome.laps > 1)
    if from_stream or (kind.stream and not local):
        return Boundaries.FREE
    return Boundaries.MERGED if local else Boundaries.KEPT


def _boundaries(boundaries: Boundaries, role: str, phase: Phase) -> Iterator[str]:
    if boundaries is Boundaries.FREE:
        return
    ends = list(accumulate(phase.sent))
    messages = [message for message in phase.received[role] if message and isinstance(message, tuple)]
    if boundaries is Boundaries.KEPT:
        sent = [((end - size, end),) for size, end in zip(phase.sent, ends, strict=True)]
        if sorted(map(str, messages)) != sorted(map(str, sent)):
            yield f"wanted {len(sent)} messages on {role} with the boundaries sent, got {_shape(messages)}"
    elif not all(part[1] in ends for message in messages for part in message if isinstance(part, tuple)):
        yield f"wanted whole messages on {role}, got {_shape(messages)}: split"


def _shape(messages: Sequence[tuple[Span | str, ...]]) -> str:
    shown = ("+".join(map(_range, message)) for message in messages)
    return f"{len(messages)}: {', '.join(shown)}"


def _flatten(messages: Iterable[Message]) -> list[Span]:
    """List the spans a socket received, in order, those that continue each other joined."""
    spans: list[Span] = []
    for message in messages:
        for part in message if isinstance(message, tuple) else ():
            if isinstance(part, str):
                continue
            if spans and spans[-1][1] == part[0]:
                spans[-1] = (spans[-1][0], part[1])
            else:
                spans.append(part)
    return spans


def _subtract(spans: Sequence[Span], taken: Iterable[Span]) -> list[Span]:
    """Return the parts of `spans` that are not in `taken`."""
    left = list(spans)
    for begin, end in taken:
        left = [
            piece
            for span in left
            for piece in ((span[0], min(span[1], begin)), (max(span[0], end), span[1]))
            if piece[0] < piece[1]
        ]
    return left


def _repeated(spans: Sequence[Span]) -> list[Span]:
    """Return the spans that a socket received again."""
    again: list[Span] = []
    for number, span in enumerate(spans):
        fresh = _subtract([span], spans[:number])
        again += _subtract([span], fresh)
    return again


def _whole(spans: Sequence[Span], total: int) -> bool:
    return not _subtract([(0, total)], spans) and not _repeated(spans)


def _range(span: object) -> str:
    return f"{span[0]}-{span[1] - 1}" if isinstance(span, tuple) else str(span)
