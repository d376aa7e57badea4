# SPDX-License-Identifier: GPL-2.0-only
"""A redirect Observation as values; a value of another form than the scenario documents is an error, never a pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.groups.redirect.cases import roles
from conformance.model import Observation

PHASES = ("byte", "kilobyte", "burst")
"""The phases of a redirect case, in order."""

Message = tuple[tuple[int, int] | str, ...] | str
"""One message received: spans `(begin, end)` of what was sent and strings for other bytes; or `eof`, or `!ERRNO`."""


class MalformedError(ValueError):
    """The observation is not what the scenario documents."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What the program counted."""

    passed: int
    passed_bytes: int
    dropped: int
    dropped_bytes: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase showed."""

    name: str
    sent: tuple[int, ...]
    """Sizes of the messages."""
    send: tuple[int | str, ...]
    """Bytes accepted, or errno, of each."""
    runs: RunCounts
    received: Mapping[str, tuple[Message, ...]]
    """By role."""
    settled: bool

    @property
    def total(self) -> int:
        """Bytes sent."""
        return sum(self.sent)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one case showed."""

    sockets: Mapping[str, str]
    attach: tuple[tuple[str, str], ...]
    insert: Mapping[str, str]
    phases: tuple[Phase, ...]
    errors: Mapping[str, str]


def read(observation: Observation, layout: str) -> Seen:
    """Read the observation of a redirect case; MalformedError says what is wrong with it."""
    _keys(observation, {"socket", "attach", "insert", "phases", "errors"}, "the observation")
    seen = Seen(
        sockets=_texts(observation["socket"], "socket"),
        attach=tuple(_attempt(attempt) for attempt in _list(observation["attach"], "attach")),
        insert=_texts(observation["insert"], "insert"),
        phases=tuple(_phase(phase, roles(layout)) for phase in _list(observation["phases"], "phases")),
        errors=_texts(observation["errors"], "errors"),
    )
    names = tuple(phase.name for phase in seen.phases)
    cut = bool(seen.phases) and not seen.phases[-1].settled
    if names not in ((), PHASES) and not (cut and names == PHASES[: len(names)]):
        raise MalformedError(f"phases are {', '.join(names)}, not {', '.join(PHASES)}")
    if names and set(seen.errors) != set(roles(layout)):
        raise MalformedError(f"errors of {', '.join(seen.errors)}, not of {', '.join(roles(layout))}")
    return seen


def _phase(phase: Any, roles: tuple[str, ...]) -> Phase:
    _keys(phase, {"name", "sent", "send", "runs", "received", "settled"}, "a phase")
    name = phase["name"]
    sent = tuple(_number(size, f"{name}: sent") for size in _list(phase["sent"], f"{name}: sent"))
    send = tuple(_list(phase["send"], f"{name}: send"))
    if not sent or len(send) != len(sent) or not all(type(each) in (int, str) for each in send):
        raise MalformedError(f"{name}: send has no answer, bytes or errno, to each message sent")
    _keys(phase["runs"], {"pass", "pass_bytes", "drop", "drop_bytes"}, f"{name}: runs")
    runs = [_number(phase["runs"][key], f"{name}: runs") for key in ("pass", "pass_bytes", "drop", "drop_bytes")]
    _keys(phase["received"], set(roles), f"{name}: received")
    if type(phase["settled"]) is not bool:
        raise MalformedError(f"{name}: settled is {phase['settled']!r}")
    received = {
        role: tuple(_message(message, sum(sent), f"{name}: received") for message in _list(messages, f"{name}: {role}"))
        for role, messages in phase["received"].items()
    }
    return Phase(name, sent, send, RunCounts(*runs), received, phase["settled"])


def _message(message: Any, total: int, where: str) -> Message:
    """Read one message, spans that continue each other joined."""
    if isinstance(message, str):
        return message
    parts: list[tuple[int, int] | str] = []
    for part in _list(message, where):
        if isinstance(part, str):
            parts.append(part)
            continue
        begin, length = (_number(number, where) for number in _list(part, where, length=2))
        if not length or begin + length > total:
            raise MalformedError(f"{where}: no {length} bytes were sent at {begin}")
        last = parts[-1] if parts else None
        if isinstance(last, tuple) and last[1] == begin:
            parts[-1] = (last[0], begin + length)
        else:
            parts.append((begin, begin + length))
    return tuple(parts)


def _attempt(attempt: Any) -> tuple[str, str]:
    kind, result = _list(attempt, "attach", length=2)
    if not isinstance(kind, str) or not isinstance(result, str):
        raise MalformedError(f"attach: {attempt!r}")
    return kind, result


def _keys(value: Any, keys: set[str], where: str) -> None:
    if not isinstance(value, Mapping) or set(value) != keys:
        shown = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise MalformedError(f"{where} has {shown or 'nothing'} where {', '.join(sorted(keys))} are due")


def _texts(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise MalformedError(f"{where}: {value!r}")
    return dict(value)


def _list(value: Any, where: str, *, length: int | None = None) -> list[Any]:
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        raise MalformedError(f"{where}: {value!r} is not a list" + (f" of {length}" if length is not None else ""))
    return list(value)


def _number(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise MalformedError(f"{where}: {value!r} is not a count")
    return value
