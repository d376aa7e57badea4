# SPDX-License-Identifier: GPL-2.0-only
"""A case may be put to a kernel more than once: how often, what each try showed, and what they come to together."""

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
"""Of several verdicts about one case, the last one here stands."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often each case is tried."""

    tries: int = 2
    """A case that came to something unexpected is tried anew in fresh clones until a try disagrees: so many in all."""
    repeat: float = 1
    """Every case is tried so often anyway."""
    until_fail: bool = False
    """End repeating a case at its first unexpected verdict."""
    seconds: float = math.inf
    """No repetition of a case begins when it has taken so long already."""
    isolated: bool = False
    """Every try gets a clone of its own."""
    sparing: bool = False
    """Once a symptom is confirmed, others that show it are judged sooner and not tried anew; see sparing.py."""


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """What a bad case is run once more for, each time in a fresh clone."""

    results: Path
    trace: bool = False
    """The kernel's functions on sockmap's paths, with their return values."""
    dump: bool = False
    """The guest's memory at the end, or at the moment of its death."""


@dataclass(frozen=True, slots=True)
class Try:
    """What came of putting a case to a kernel once, or `times` times in a row with the same outcome."""

    judgement: Judgement
    reply: Reply | None = None
    """Of the first time; None where no machine could be asked."""
    log: tuple[LogLine, ...] = ()
    """All the kernel said around it, late lines included."""
    fresh: bool = False
    """Whether in a clone that had seen no other case."""
    flawed: bool = False
    """Whether the host killed, stopped or starved its clone, or changed its template: it says nothing of the kernel."""
    hasty: bool = False
    """Whether it looked for something that is missing for a shorter time than usual."""
    times: int = 1
    seconds: float = 0.0
    """All times together, from request to answer."""

    @property
    def outcome(self) -> tuple[Verdict, str]:
        """What tries can disagree on."""
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
    """Count tries in a row that are equal in all they say, so that a million of them take the room of one."""
    found: list[Try] = []
    for each in tries:
        last = found[-1] if found else None
        if last and (last.judgement, last.fresh) == (each.judgement, each.fresh) and each.judgement.verdict.expected:
            found[-1] = replace(last, times=last.times + each.times, seconds=last.seconds + each.seconds)
        else:
            found.append(each)
    return found


def worst(tries: Sequence[Try]) -> Try:
    """Return the try whose verdict stands for all; of equally bad ones the first."""
    return max(_sound(tries), key=lambda each: _SEVERITY.index(each.judgement.verdict))


def disagree(tries: Iterable[Try]) -> bool:
    """Tell whether the tries came to different outcomes."""
    return len({each.outcome for each in _sound(tries)}) > 1


def _sound(tries: Iterable[Try]) -> list[Try]:
    """Leave out the tries that say nothing beside others: in a flawed clone, or hasty."""
    tries = list(tries)
    sound = [each for each in tries if not each.flawed] or tries
    return [each for each in sound if not each.hasty] or sound
