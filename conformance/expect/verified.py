# SPDX-License-Identifier: GPL-2.0-only
"""The kernels on which all rows of the tables were verified."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from kernels.version import Version

_VERIFIED = Path(__file__).with_name("verified.toml")


@cache
def newest_known() -> Version:
    """Return the newest kernel on which all rows were verified."""
    document = tomllib.loads(_VERIFIED.read_text(encoding="utf-8"))
    return max(Version.parse(kernel["id"]) for kernel in document["kernel"])


def note(version: Version) -> str:
    """Return a note for a kernel newer than the tables, with the version it is judged by; empty for others."""
    newest = newest_known()
    return f"{version} is newer than the newest kernel known here and judged by {newest}" if version > newest else ""
