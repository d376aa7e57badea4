# SPDX-License-Identifier: GPL-2.0-only
"""Hand cases to pytest-xdist's workers by kernel and shard."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARDS = 16
"""Per kernel. Enough that the last one to finish is short, few enough that workers are rarely idle in between."""


class ShardScheduling(LoadScopeScheduling):
    """Send a worker one shard of one kernel after the other, kernels in order.

    xdist's own `loadgroup` does not group under pytest 9.2, where a node id is no longer a plain attribute
    (pytest-xdist issue 1386).
    """

    def __init__(self, config: pytest.Config, log: Any, slugs: Sequence[str]) -> None:
        super().__init__(config, log)
        # Ordering scopes by size would interleave kernels and make each worker restore clone after clone.
        config.option.loadscopereorder = False
        self._slugs = sorted(slugs, key=len, reverse=True)

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid, self._slugs)


def scope_of(nodeid: str, slugs: Sequence[str]) -> str:
    """Return `KERNEL/SHARD` of a node id, or its module for a test without a kernel; longest slugs first."""
    name, bracket, parameters = nodeid.partition("[")
    slug = next((slug for slug in slugs if parameters.startswith(f"{slug}-")), None)
    if not bracket or slug is None:
        return name.rsplit("::", 1)[0]
    return f"{slug}/{zlib.crc32(parameters.encode()) % SHARDS}"
