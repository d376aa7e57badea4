# SPDX-License-Identifier: GPL-2.0-only
"""`conform report`: what event logs say, in the format that somebody reads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.errors import ExitCode
from conformance.report.events import read
from conformance.report.formats import FORMATS
from conformance.report.merge import merged
from conformance.report.store import store
from conformance.report.style import Style
from conformance.report.text import report_lines


def report(options: argparse.Namespace) -> int:
    """Write the report of one log, or of several as one run."""
    run = merged([read(Path(each)) for each in options.directory])
    if options.format == "text" and options.output is None:
        print("\n".join(report_lines(run, Style.of(sys.stdout))))
        return int(ExitCode.OK)
    text = FORMATS[options.format].render(run).encode()
    if options.output is None:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
    else:
        store(Path(options.output), text)
    return int(ExitCode.OK)
