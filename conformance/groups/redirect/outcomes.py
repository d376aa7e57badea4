# SPDX-License-Identifier: GPL-2.0-only
"""The possible outcomes of a redirect: for the sender, the program and every socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ProgramRuns(StrEnum):
    """What the program's counters show."""

    PASS = "pass"
    """Ran on every byte, and passed it."""
    DROP = "drop"
    """Ran on every byte, and dropped it."""
    DROP_ONCE = "drop once"
    """Dropped the first message; later messages are refused without running it."""
    NEVER = "never"


class Where(StrEnum):
    """Where every byte arrives; nothing arrives anywhere else."""

    MODE = "mode"
    """At the target or its peer, as the mode says."""
    NATIVE = "native"
    """Where data arrives without a redirect."""
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome of a redirect."""

    summary: str
    runs: ProgramRuns
    where: Where
    send: str = "ok"
    """The result of every send(2): `ok` if it accepted all bytes, or an errno."""
    laps: int = 1
    """How often every byte meets the program."""


OUTCOMES: Final[Mapping[str, Outcome]] = {
    "delivered": Outcome("every byte arrives where the mode sends it", ProgramRuns.PASS, Where.MODE),
    "native": Outcome("the program does not run; the data takes its native path", ProgramRuns.NEVER, Where.NATIVE),
    "refused-EACCES": Outcome(
        "the program's verdict on each message is DROP, and each send fails",
        ProgramRuns.DROP,
        Where.NOWHERE,
        send="EACCES",
    ),
    "refused-without-program": Outcome(
        "the program drops the first message, and every later one is refused without running the program",
        ProgramRuns.DROP_ONCE,
        Where.NOWHERE,
        send="EACCES",
    ),
    "dropped": Outcome("the program's verdict is DROP, and no send fails", ProgramRuns.DROP, Where.NOWHERE),
    "circulates": Outcome(
        "redirected data meets the program again, and passes it the third time",
        ProgramRuns.PASS,
        Where.MODE,
        laps=3,
    ),
}
"""By name. Other outcomes are `no-socket-ERRNO`, `not-attached-ERRNO` and `not-inserted-ERRNO`."""

OTHER: Final = "other"
"""The name of anything else that was observed."""
