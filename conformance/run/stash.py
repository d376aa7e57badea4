# SPDX-License-Identifier: GPL-2.0-only
"""Where the plugin keeps its state in pytest's config."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from conformance.groups import cases
from conformance.model import Case
from conformance.run.machine_pool import MachinePool
from conformance.run.run_options import RunOptions
from conformance.run.selection import Chosen, choose

OPTIONS: pytest.StashKey[RunOptions] = pytest.StashKey()
"""The options of the command line."""
POOL: pytest.StashKey[MachinePool] = pytest.StashKey()
"""The pool of this process, once the kernels are known."""
BROKEN: pytest.StashKey[frozenset[str]] = pytest.StashKey()
"""Slugs of kernels that do not boot: their cases are not tried."""
DONE: pytest.StashKey[frozenset[str]] = pytest.StashKey()
"""Node ids of the cases judged before this run was resumed."""
CHOSEN: pytest.StashKey[Chosen] = pytest.StashKey()
"""The cases chosen for each kernel; computed at first use."""
QUICKENED: pytest.StashKey[Chosen] = pytest.StashKey()
"""The cases that `--quick` keeps of these."""
LAST: pytest.StashKey[bool] = pytest.StashKey()
"""Of an item: whether it is the last case of its kernel in this process."""

DURATIONS: pytest.StashKey[Mapping[str, float]] = pytest.StashKey()
"""What kernels and their shards took the last time; on workers only."""


def specs_of(config: pytest.Config) -> Mapping[str, str]:
    """Return slug to spec of the kernels under test."""
    return config.stash[OPTIONS].specs


def broken_in(config: pytest.Config) -> frozenset[str]:
    """Return the slugs of the kernels known not to run."""
    return config.stash.get(BROKEN, frozenset[str]())


def chosen_in(config: pytest.Config) -> Chosen:
    """Return the cases of each kernel that runs; the same in every process of a session."""
    chosen = config.stash.get(CHOSEN, None)
    if chosen is None:
        runs = [slug for slug in specs_of(config) if slug not in broken_in(config)]
        chosen = config.stash[CHOSEN] = choose(config.stash[OPTIONS].wanted, runs, cases())
    return chosen


def case_of(item: pytest.Item) -> Case | None:
    """Return the case that an item is, None for any other test."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    case = params.get("case")
    return case if "kernel" in params and isinstance(case, Case) else None


def kernel_of(item: pytest.Item) -> str:
    """Return the slug of the kernel that an item judges, empty for any other test."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return str(params.get("kernel", ""))
