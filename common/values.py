# SPDX-License-Identifier: GPL-2.0-only
"""Bounds of numbers in options and configuration files. argparse adds the option's name to an error.

Imported by Debian's own Python before anything is installed, so it uses only the standard library.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

_SHOWN = 24
"""Characters of a value that an error quotes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The numbers that an option takes, both ends included; a type of argparse."""

    least: int
    most: int
    fraction: bool = False
    """Whether fractions such as 0.5 are allowed."""

    def wrong(self, number: float) -> str:
        """Return what is wrong with a number; empty for one that is allowed."""
        if self.least <= number <= self.most:
            return ""
        bound = f"at most {self.most}" if number > self.most else f"at least {self.least}"
        return f"must be {bound}, not {_short(str(number))}"

    def __call__(self, text: str) -> float:
        """Read a number; ArgumentTypeError for anything else, and for one out of bounds."""
        try:
            number = float(text) if self.fraction else int(text)
        except ValueError:
            kind = "a number" if self.fraction else "a whole number"
            raise argparse.ArgumentTypeError(f"{_short(repr(text))} is not {kind}") from None
        if wrong := self.wrong(number):
            raise argparse.ArgumentTypeError(wrong)
        return number


WORKERS = Bounds(0, 512)
"""How many machines may run at a time; 0 leaves the number to the command."""


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
