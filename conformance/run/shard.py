# SPDX-License-Identifier: GPL-2.0-only
"""A share of all cases, so that several machines judge a kernel together: the id of a case decides its share."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import UsageError

_FORM = re.compile(r"(\d{1,4})/(\d{1,4})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """The `number`-th of `count` shares, from 1 on."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`; UsageError for an invalid share."""
        match = _FORM.fullmatch(text)
        shard = cls(*map(int, match.groups())) if match else None
        if shard is None or not 1 <= shard.number <= shard.count:
            raise UsageError(f"--shard {text} is not a share", hint="e.g. --shard 1/4, the first of four")
        return shard

    def holds(self, case_id: str) -> bool:
        """Whether a case is in this share; in every run and on every machine, for every kernel."""
        return zlib.crc32(case_id.encode()) % self.count == self.number - 1

    def siblings(self) -> Iterator[Shard]:
        """Yield every share of this division."""
        return (Shard(number, self.count) for number in range(1, self.count + 1))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Shard(1, 1)
"""All cases."""
