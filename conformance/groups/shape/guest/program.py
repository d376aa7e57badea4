# SPDX-License-Identifier: GPL-2.0-only
"""The programs of bpf/programs/shape.h: what they are to do in each run, and what they saw.

One load serves all cases of a process: verifying the program takes longer than a case.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from bpf.guest import syscall
from conformance.guestlib import fixture
from conformance.guestlib.answers import error_name
from conformance.guestlib.fixture import WHEN_WRONG, Fixture, get_program

SK_DROP, SK_PASS = 0, 1
UNCALLED: Final = 0xFFFFFFFF
"""In the place of a number of bytes: the program does not call the helper."""
TURNS, OPERATIONS, RUNS = 4, 24, 8
"""Runs with orders of their own, operations, and runs with notes."""

_HELPERS: Final = {
    "msg": {"push": 1, "pop": 2, "pull": 3, "write": 4, "push-flag": 5, "pop-flag": 6, "pull-flag": 7},
    "skb": {"tail": 1, "room": 2, "pull": 3, "write": 4},
}
_TURN = struct.Struct("=6I")
_OPERATION = struct.Struct("=3Ii")
_COUNT = struct.Struct("=II")
_SEEN = struct.Struct("=4I")
_OPERATIONS_AT = TURNS * _TURN.size
_COUNT_AT = _OPERATIONS_AT + OPERATIONS * _OPERATION.size
_BEFORE_AT = _COUNT_AT + _COUNT.size
_AFTER_AT = _BEFORE_AT + RUNS * _SEEN.size
_REPORT = bytes(_AFTER_AT + RUNS * _SEEN.size - _COUNT_AT)
_ANSWERS: Final = {1: "not visible", 2: "unknown"}


@dataclass(frozen=True)
class Turn:
    """What to do in one run: call helpers, and answer with a verdict or a redirect."""

    to: str = "pass"
    """`pass`, `drop`, `local` or `egress`."""
    operations: int = 0
    """How many of the operations to do, from the first."""
    apply: int = UNCALLED
    cork: int = UNCALLED

    def pack(self) -> bytes:
        """Return it as `struct turn`."""
        verdict = SK_DROP if self.to == "drop" else SK_PASS
        redirects = self.to in ("local", "egress")
        flags = syscall.F_INGRESS if self.to == "local" else 0
        return _TURN.pack(verdict, redirects, flags, self.operations, self.apply, self.cork)


@dataclass(frozen=True)
class Seen:
    """What a run had of its data: sizes in bytes, the first and the last visible byte."""

    size: int
    visible: int
    first: int
    last: int


@dataclass(frozen=True)
class Operation:
    """A call of a helper."""

    helper: str
    """A name in `_HELPERS` of the program's family."""
    start: int
    length: int = 0


class Shaper:
    """One loaded program, attached to a map, and the map of its redirect targets."""

    def __init__(self, family: str) -> None:
        self._helpers = _HELPERS[family]
        self._fixture = Fixture()
        try:
            name = f"sk_{family}_shape"
            orders = self._fixture.keep(syscall.create_map(*get_program(name).maps["shape"]))
            self._memory = self._fixture.enter_context(mmap.mmap(orders, mmap.PAGESIZE))
            self.source, self.targets = self._fixture.map("sockmap"), self._fixture.map("sockmap")
            program = self._fixture.load(name, {"shape": orders, "targets": self.targets})
            fixture.attach(self.source, program, "sk_msg_verdict" if family == "msg" else "sk_skb_verdict")
        except BaseException:
            self.close()
            raise

    def order(self, *turns: Turn, operations: Sequence[Operation] = ()) -> None:
        """Say what to do in the next runs, the last turn in all further ones, and forget what was seen."""
        packed = [turn.pack() for turn in turns]
        packed += packed[-1:] * (TURNS - len(packed))
        called = [_OPERATION.pack(self._helpers[each.helper], each.start, each.length, 0) for each in operations]
        order = b"".join((*packed, *called)).ljust(_COUNT_AT, b"\0")
        self._memory[: _COUNT_AT + len(_REPORT)] = order + _REPORT

    def answers(self, count: int) -> list[str]:
        """Return what the first operations answered: `"ok"`, an errno, or `"not visible"`."""
        found = [_OPERATION.unpack_from(self._memory, _OPERATIONS_AT + n * _OPERATION.size)[3] for n in range(count)]
        return [_ANSWERS.get(answer) or error_name(-answer) for answer in found]

    def runs(self) -> int:
        """Return how often the program ran since the last order."""
        return int(_COUNT.unpack_from(self._memory, _COUNT_AT)[0])

    def before(self, run: int) -> Seen:
        """Return what a run saw at its beginning."""
        return Seen(*_SEEN.unpack_from(self._memory, _BEFORE_AT + run * _SEEN.size))

    def after(self, run: int) -> Seen:
        """Return what a run saw after its operations."""
        return Seen(*_SEEN.unpack_from(self._memory, _AFTER_AT + run * _SEEN.size))

    def close(self) -> None:
        """Unload the program and close its maps."""
        self._fixture.close()


shaper = cache(Shaper)
"""Return the program of a family, `msg` or `skb`, that all cases of this process use."""


def _discard() -> None:
    """Have the next case load programs of its own."""
    shaper.cache_clear()


WHEN_WRONG.append(_discard)
