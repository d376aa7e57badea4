# SPDX-License-Identifier: GPL-2.0-only
"""Reports as files."""

from __future__ import annotations

from pathlib import Path

from common import outfile
from common.errors import HostError
from conformance.report.events import Run
from conformance.report.formats import FORMATS

_SUFFIXES = {
    "text": "txt",
    "plain": "ascii.txt",
    "markdown": "md",
    "junit": "xml",
    "kcidb": "kcidb.json",
    "features": "json",
}
"""File name extensions that differ from the name of the format."""


def write(run: Run, name: str, folder: Path) -> Path:
    """Write one report into a folder, under the name of its format; HostError if it cannot be stored."""
    path = folder / f"report.{_SUFFIXES.get(name, name)}"
    store(path, FORMATS[name].render(run).encode())
    return path


def store(path: Path, text: bytes) -> None:
    """Write a report; HostError if it cannot be stored."""
    try:
        outfile.replace(path, text)
    except OSError as error:
        sentence = f"cannot write the report {path}: {error.strerror}"
        raise HostError(sentence, hint="choose another --output FILE") from error
