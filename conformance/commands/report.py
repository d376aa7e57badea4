# SPDX-License-Identifier: GPL-2.0-only
"""`conform report`: convert event logs to another format."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import ExitCode, UsageError
from common.say import put, put_bytes, say
from conformance.report.events import NAME, read
from conformance.report.formats import FORMATS
from conformance.report.merge import merged
from conformance.report.store import store
from conformance.report.style import Style
from conformance.report.text import report_lines
from conformance.run.results import located

_PAGE = "report.html"


def report(options: argparse.Namespace) -> int:
    """Write the report of one log, or of several as one run."""
    folders = [Path(each) for each in options.directory]
    if options.open:
        if options.format not in ("text", "html"):
            raise UsageError(
                f"--open writes the web page, and --format asks for {options.format}", hint="leave out one of them"
            )
        return _open(folders, options.output)
    # On a terminal, evidence paths are relative to the current directory; in a file, to the results folder.
    runs = [read(path) for path in folders]
    if options.output in (None, "-") and options.format == "text":
        here = [located(run, _folder(path)) for run, path in zip(runs, folders, strict=True)]
        put(report_lines(merged(here), Style.of(sys.stdout)), sys.stdout)
        return int(ExitCode.OK)
    text = FORMATS[options.format].render(merged(runs)).encode()
    if options.output in (None, "-"):
        put_bytes(text, sys.stdout)
    else:
        store(Path(options.output), text)
    return int(ExitCode.OK)


def _open(folders: Sequence[Path], output: str | None) -> int:
    """Write the page, by default beside the log, and open it in the browser if there is a display."""
    if len(folders) > 1 and output is None:
        raise UsageError("--open does not know where to write the page of several runs", hint="name it with --output")
    if output == "-":
        raise UsageError("--open cannot open standard output", hint="name a file with --output, or leave it out")
    path = Path(output) if output is not None else _folder(folders[0]) / _PAGE
    store(path, FORMATS["html"].render(merged([read(each) for each in folders])).encode())
    opener = shutil.which("xdg-open")
    if opener is not None and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        subprocess.run([opener, path], stdin=subprocess.DEVNULL, check=False)
    say(path.resolve().as_uri())
    return int(ExitCode.OK)


def _folder(path: Path) -> Path:
    return path.parent if path.name == NAME else path
