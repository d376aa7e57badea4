# SPDX-License-Identifier: GPL-2.0-only
"""Every case there is, in a stable order: a group is one line and one module here."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import Final

from conformance.catalogue import redirect_cases
from conformance.groups.insert import insert_cases
from conformance.model import Case

GROUPS: Final[Mapping[str, Callable[[], tuple[Case, ...]]]] = {
    "redirect": redirect_cases,
    "insert": insert_cases,
}


def cases() -> tuple[Case, ...]:
    """List every case of every group."""
    return tuple(case for group in GROUPS.values() for case in group())
