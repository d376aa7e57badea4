# SPDX-License-Identifier: GPL-2.0-only
"""The formats of reports by name: a format is a module with `render(run)`, and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Format:
    """A format of reports."""

    module: str
    """The module below conformance.report; its `render` returns the report of a Run, with a last newline."""
    reader: str
    """The readers of the format, in a few words."""

    def render(self, run: object) -> str:
        """Return the report of a Run."""
        # By name: a command that writes no report must not pay for eight formats.
        text: str = importlib.import_module(f"conformance.report.{self.module}").render(run)
        return text


FORMATS: Final[Mapping[str, Format]] = {
    "text": Format("text", "a terminal"),
    "plain": Format("plain", "a mailing list"),
    "markdown": Format("markdown", "a CI summary"),
    "html": Format("html", "a browser"),
    "ktap": Format("ktap", "kernel tools"),
    "junit": Format("junit", "Jenkins, GitLab"),
    "kcidb": Format("kcidb", "KernelCI"),
    "features": Format("features", "tracking features by kernel version"),
}
