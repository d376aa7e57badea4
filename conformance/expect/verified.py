# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that the tables know: the oldest, and those on which all rows were verified."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from common.errors import UsageError
from kernels.version import Version

OLDEST: Final = Version(5, 10)
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


def version_asked(text: str) -> Version:
    """Return the version that --version gives; UsageError for a text that is none, and for one before the tables."""
    try:
        version = Version.parse(text)
    except ValueError as error:
        raise UsageError(f"--version {text} is not a kernel version", hint="e.g. 6.12.107") from error
    if version < OLDEST:
        raise UsageError(f"the tables begin at {OLDEST}, not at {version}", hint="give a later --version")
    return version
