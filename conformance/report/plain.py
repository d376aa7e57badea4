# SPDX-License-Identifier: GPL-2.0-only
"""The report for a mailing list: 80 columns of ASCII, which no mailer encodes or folds."""

from __future__ import annotations

from conformance.report.events import Run
from conformance.report.style import Style
from conformance.report.text import report_lines


def render(run: Run) -> str:
    """Return the report."""
    return "".join(f"{line}\n" for line in report_lines(run, Style(unicode=False)))
