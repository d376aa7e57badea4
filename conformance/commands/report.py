# SPDX-License-Identifier: GPL-2.0-only
"""`conform report`: what event logs say, in the format that somebody reads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.errors import ExitCode
from common.errors import HostError
from conformance.report.events import Run
from conformance.report.events import read
from conformance.report.formats import FORMATS
from conformance.report.merge import merged
from conformance.report.style import Style
from conformance.report.text import report_lines

_SUFFIXES = {
    "text": "txt",
    "plain": "ascii.txt",
    "markdown": "md",
    "junit": "xml",
    "kcidb": "kcidb.json",
    "features": "json",
}
"""Where the name of a format is not what its files end with."""


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
        _store(Path(options.output), text)
    return int(ExitCode.OK)


def write(run: Run, name: str, folder: Path) -> Path:
    """Write one report into a folder, under the name of its format; HostError if it cannot be stored."""
    path = folder / f"report.{_SUFFIXES.get(name, name)}"
    _store(path, FORMATS[name].render(run).encode())
    return path


def _store(path: Path, text: bytes) -> None:
    """Write beside and rename, so that nobody ever reads half a report; straight into what is no file."""
    special = path.exists() and not path.is_file()
    beside = path if special else path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(text)
        beside.replace(path)
    except OSError as error:
        sentence = f"cannot write the report {path}: {error.strerror}"
        raise HostError(sentence, hint="choose another --output FILE") from error
