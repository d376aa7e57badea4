# SPDX-License-Identifier: GPL-2.0-only
"""Several tries of one case: how many, the result of each, and their common verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from conformance.model import Judgement, Verdict
from vm.machine import LogLine, Reply

_SEVERITY = (
    Verdict.PASS,
    Verdict.SKIP,
    Verdict.XFAIL,
    Verdict.INFRA,
    Verdict.XPASS,
    Verdict.FAIL,
    Verdict.LOST,
    Verdict.HANG,
    Verdict.SPLAT,
    Verdict.PANIC,
)
"""The severity of verdicts: of several tries, the last in this list stands."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often each case is tried."""

    tries: int = 2
    """Tries at most: an unexpected case is tried again in fresh clones until a try disagrees."""
    repeat: float = 1
    """Tries of every case, also of an expected one."""
    until_fail: bool = False
    """End repeating a case at its first unexpected verdict."""
    seconds: float = math.inf
    """Seconds after which no further repetition of a case begins."""
    isolated: bool = False
    """Every try gets its own clone."""
    sparing: bool = False
    """Cases with a confirmed symptom are judged sooner and not tried again; see sparing.py."""


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """Evidence for which an unexpected case is run again, each kind in a fresh clone."""

    results: Path
    trace: bool = False
    """The kernel's functions on sockmap's paths, with their return values."""
    dump: bool = False
    """The guest's memory at the end, or at the moment of its death."""


@dataclass(frozen=True, slots=True)
class Try:
    """The result of one try of a case, or of `times` tries in a row with the same result."""

    judgement: Judgement
    reply: Reply | None = None
    """The reply to the first; None if no machine could be asked."""
    log: tuple[LogLine, ...] = ()
    """The kernel log of the try, late lines included."""
    fresh: bool = False
    """Whether in a clone that had seen no other case."""
    flawed: bool = False
    """Whether the host killed, stopped or starved its clone, or changed its template: it proves nothing."""
    hasty: bool = False
    """Whether it looked for missing data for a shorter time than usual."""
    times: int = 1
    seconds: float = 0.0
    """Seconds of all times together, from request to answer."""

    @property
    def outcome(self) -> tuple[Verdict, str]:
        """The part of a try that tries can disagree on."""
        return self.judgement.verdict, self.judgement.observed

    def record(self) -> dict[str, Any]:
        """Return its entry in the event log; see `CaseEvent.tries`."""
        judgement = self.judgement
        return {
            "verdict": str(judgement.verdict),
            "expected": judgement.expected,
            "observed": judgement.observed,
            "differences": list(judgement.differences),
            "fresh": self.fresh,
            "hasty": self.hasty,
            "times": self.times,
            "seconds": round(self.seconds, 4),
            "log": [] if judgement.verdict.expected else [asdict(line) for line in self.log],
        }


def gathered(tries: Iterable[Try]) -> list[Try]:
    """Merge equal tries in a row, so that a million of them take the room of one."""
    found: list[Try] = []
    for each in tries:
        last = found[-1] if found else None
        if last and (last.judgement, last.fresh) == (each.judgement, each.fresh) and each.judgement.verdict.expected:
            found[-1] = replace(last, times=last.times + each.times, seconds=last.seconds + each.seconds)
        else:
            found.append(each)
    return found


def worst(tries: Sequence[Try]) -> Try:
    """Return the deciding try: the worst, and among equals the first."""
    return max(_sound(tries), key=lambda each: _SEVERITY.index(each.judgement.verdict))


def disagree(tries: Iterable[Try]) -> bool:
    """Return whether the tries have different outcomes."""
    return len({each.outcome for each in _sound(tries)}) > 1


def _sound(tries: Iterable[Try]) -> list[Try]:
    """Leave out tries in a flawed clone and hasty tries, if there are others."""
    tries = list(tries)
    sound = [each for each in tries if not each.flawed] or tries
    return [each for each in sound if not each.hasty] or sound
