# SPDX-License-Identifier: GPL-2.0-only
"""Upstream kernel versions and their order."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:[-~]rc(\d+))?")
_RELEASED = 1 << 30


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """`major.minor.sublevel`; a release candidate sorts before its release."""

    major: int
    minor: int
    sublevel: int = 0
    candidate: int = _RELEASED

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read the version at the start of `text` (`6.12.107+deb12-amd64` is 6.12.107); ValueError if there is none."""
        match = _VERSION.match(text)
        if match is None:
            raise ValueError(f"{text!r} does not start with a kernel version")
        major, minor, sublevel, candidate = match.groups()
        return cls(int(major), int(minor), int(sublevel or 0), int(candidate or _RELEASED))

    @property
    def branch(self) -> str:
        """The stable branch, e.g. `6.12`."""
        return f"{self.major}.{self.minor}"

    def __str__(self) -> str:
        text = f"{self.branch}.{self.sublevel}" if self.sublevel else self.branch
        return text if self.candidate == _RELEASED else f"{text}-rc{self.candidate}"
