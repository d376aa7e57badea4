# SPDX-License-Identifier: GPL-2.0-only
"""The programs of bpf/programs/shape.h: the orders for each run, and the notes of each run.

A process loads each program once for all its cases, because verification takes longer than a case.
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
"""In place of a number of bytes: the program does not call the helper."""
TURNS, OPERATIONS, RUNS = 4, 24, 8
"""How many runs have orders, how many operations there are, and how many runs have notes."""

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
    """The orders for one run: the helpers to call, and the verdict or redirect to return."""

    to: str = "pass"
    """`pass`, `drop`, `local` or `egress`."""
    operations: int = 0
    """How many operations the run carries out, from the first."""
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
    """The notes of one run: the size of the data, the bytes between data and data_end, the first and last of them."""

    size: int
    visible: int
    first: int
    last: int


@dataclass(frozen=True)
class Operation:
    """One call of a helper."""

    helper: str
    """A name in `_HELPERS` of the family of the program."""
    start: int
    length: int = 0


class Shaper:
    """A loaded program, the map it is attached to, and the map of its redirect targets."""

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
        """Give the orders for the next runs, and clear the notes. All further runs repeat the last turn."""
        packed = [turn.pack() for turn in turns]
        packed += packed[-1:] * (TURNS - len(packed))
        called = [_OPERATION.pack(self._helpers[each.helper], each.start, each.length, 0) for each in operations]
        order = b"".join((*packed, *called)).ljust(_COUNT_AT, b"\0")
        self._memory[: _COUNT_AT + len(_REPORT)] = order + _REPORT

    def answers(self, count: int) -> list[str]:
        """Return what the first operations returned: `"ok"`, an errno, or `"not visible"`."""
        found = [_OPERATION.unpack_from(self._memory, _OPERATIONS_AT + n * _OPERATION.size)[3] for n in range(count)]
        return [_ANSWERS.get(answer) or error_name(-answer) for answer in found]

    def runs(self) -> int:
        """Return how often the program ran since the last order."""
        return int(_COUNT.unpack_from(self._memory, _COUNT_AT)[0])

    def before(self, run: int) -> Seen:
        """Return what a run noted before its operations."""
        return Seen(*_SEEN.unpack_from(self._memory, _BEFORE_AT + run * _SEEN.size))

    def after(self, run: int) -> Seen:
        """Return what a run noted after its operations."""
        return Seen(*_SEEN.unpack_from(self._memory, _AFTER_AT + run * _SEEN.size))

    def close(self) -> None:
        """Unload the program and close its maps."""
        self._fixture.close()


shaper = cache(Shaper)
"""Return the program of a family, `msg` or `skb`, which all cases of this process share."""


def _discard() -> None:
    """Make the next case load its programs again."""
    shaper.cache_clear()


WHEN_WRONG.append(_discard)
