# SPDX-License-Identifier: GPL-2.0-only
"""The kernels on which every row of the tables was seen to hold."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from kernels.version import Version

_VERIFIED = Path(__file__).with_name("verified.toml")


@cache
def newest_known() -> Version:
    """Return the newest kernel on which every row was seen to hold."""
    document = tomllib.loads(_VERIFIED.read_text(encoding="utf-8"))
    return max(Version.parse(kernel["id"]) for kernel in document["kernel"])


def note(version: Version) -> str:
    """Say by what a kernel is judged that is newer than the tables; empty if it is not."""
    newest = newest_known()
    return f"{version} is newer than the newest kernel known here and judged by {newest}" if version > newest else ""
