# SPDX-License-Identifier: GPL-2.0-only
"""Hand cases to pytest-xdist's workers by kernel and shard."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from conformance.report.events import Run

SHARDS = 16
"""Shards per kernel: enough that the last one is short, few enough that workers are rarely idle in between."""


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

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Register a worker's collection; the position of every case in it will be looked up."""
        super().add_node_collection(node, collection)
        if node in self.registered_collections:
            # xdist keeps a plain list, a copy of ours.
            self.registered_collections[node] = _Indexed(collection)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Forget a shard once its last case is done: after each case, xdist counts the cases left in all shards."""
        super().mark_test_complete(node, item_index, duration)
        shards = self.assigned_work.get(node, {})
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(shards.get(scope, {}).values()):
            shards.pop(scope, None)

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid, self._slugs)


class _Indexed(list[str]):
    """A list with an index of its items: with ten kernels, searching it costs seconds."""

    def __init__(self, each: Iterable[str]) -> None:
        super().__init__(each)
        self._places = {name: place for place, name in enumerate(self)}

    def index(self, value: str, *_: Any) -> int:
        return self._places[value]


def durations(run: Run) -> dict[str, float]:
    """Return the seconds that each kernel, and each of its shards, took."""
    found: defaultdict[str, float] = defaultdict(float)
    for slug, cases in run.cases.items():
        for case in cases:
            for scope in (slug, scope_of(case.nodeid, [slug])):
                found[scope] += case.seconds
    return dict(found)


def longest_first(durations: Mapping[str, float], slugs: Sequence[str]) -> Callable[[str, str], tuple[float, ...]]:
    """Return a sort key of slug and node id: long kernels first and of each its long shards, unknown ones before all.

    The short ones come last, so that no worker waits long for the others.
    """
    place = {slug: number for number, slug in enumerate(slugs)}

    def key(slug: str, nodeid: str) -> tuple[float, ...]:
        kernel = -durations.get(slug, math.inf)
        return kernel, place.get(slug, 0), -durations.get(scope_of(nodeid, [slug]), math.inf)

    return key


def scope_of(nodeid: str, slugs: Sequence[str]) -> str:
    """Return `KERNEL/SHARD` of a node id, or its module for a test without a kernel; longest slugs first."""
    name, bracket, parameters = nodeid.partition("[")
    slug = next((slug for slug in slugs if parameters.startswith(f"{slug}-")), None)
    if not bracket or slug is None:
        return name.rsplit("::", 1)[0]
    return f"{slug}/{zlib.crc32(parameters.encode()) % SHARDS}"
