# SPDX-License-Identifier: GPL-2.0-only
"""English that many messages need."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return `1 case` or `2 cases`; for nouns whose plural only takes an s."""
    return f"{number} {noun}{'s' * (number != 1)}"
