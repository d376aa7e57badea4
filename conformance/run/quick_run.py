# SPDX-License-Identifier: GPL-2.0-only
"""The cases that `--quick` chooses in a pytest session: the same in each of its processes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from common.errors import ConformError, lines_of
from conformance.run.machine_pool import facts_of
from conformance.run.quick import QuickSelection, choices
from conformance.run.selection import Chosen
from conformance.run.stash import OPTIONS, POOL, QUICKENED, chosen_in, specs_of
from kernels.resolve import resolve


def quick_of(config: pytest.Config) -> Mapping[str, QuickSelection]:
    """Return the cases chosen for each kernel, by its slug; nothing without --quick."""
    asked = config.stash[OPTIONS]
    if not asked.quick:
        return {}
    try:
        if POOL in config.stash:
            kernels = config.stash[POOL].kernels
        else:
            # The cases are only listed, or collected before the kernels are made ready.
            kernels = {slug: resolve(spec) for slug, spec in specs_of(config).items()}
    except ConformError as error:
        raise pytest.UsageError(lines_of(error)) from error
    known = {slug: facts_of(kernel) for slug, kernel in kernels.items()}
    return choices(known, asked.lists, stress=asked.wanted.stressed)


def chosen_cases(config: pytest.Config) -> Chosen:
    """Return the cases of each kernel that runs, with `--quick` only the chosen ones; the same in every process."""
    chosen = config.stash.get(QUICKENED, None)
    if chosen is None:
        quick = quick_of(config)
        chosen = config.stash[QUICKENED] = {
            slug: {name: case for name, case in each.items() if slug not in quick or name in quick[slug].ids}
            for slug, each in chosen_in(config).items()
        }
    return chosen
