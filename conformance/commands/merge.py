# SPDX-License-Identifier: GPL-2.0-only
"""`conform merge`: merge the logs of several machines or jobs into the results of one run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import ExitCode, UsageError, print_error
from common.say import add
from conformance.report.events import NAME, EventLog, Run, encode, interrupted, read
from conformance.report.exit_code import exit_code_of
from conformance.report.merge import merged
from conformance.report.style import Style
from conformance.report.summary import write_summary
from conformance.report.text import verdict_lines
from conformance.run.evidence_copy import EvidenceOrigin, carry, marked
from conformance.run.results import Claim, closing_lines
from conformance.run.shard import Shard


def merge(options: argparse.Namespace) -> int:
    """Write the merged results, and return the exit code of the merged run.

    It is at least 125 if a share is missing, and 128 if a log cannot be read; the others are merged all the same.
    """
    output = Path(options.output)
    paths = [Path(each) for each in options.directory]
    if any(os.path.realpath(_log(path)) == os.path.realpath(_log(output)) for path in paths):
        raise UsageError(f"--output {output} is one of the runs to merge", hint="choose another folder")
    paths, runs, damaged = _read(paths)
    _check_distinct(paths, runs)
    lacking = missing(runs)
    origins: dict[str, EvidenceOrigin] = {}
    folders = [_log(path).parent for path in paths]
    run = merged([marked(run, folder, origins) for run, folder in zip(runs, folders, strict=True)])
    run.start = replace(run.start, shard="", missing=tuple(map(str, lacking)))
    code = exit_code_of(run)
    if damaged and code is not ExitCode.UNEXPECTED:
        code = ExitCode.BROKEN
    if run.finish is not None:
        run.finish = replace(run.finish, exit_code=int(code))
    with Claim(output, option="--output"):
        run, left = carry(run, output, origins)
        _write(run, output)
    style = Style.of(sys.stdout)
    lines = [line for note in _notes(paths, runs, left) for line in style.wrap(note, first="Note: ")]
    add([*lines, *verdict_lines(run, style), *closing_lines(output, run, resumable=False)], sys.stdout)
    for error in damaged:
        print_error(error)
    return int(code)


def _read(paths: Sequence[Path]) -> tuple[list[Path], list[Run], list[UsageError]]:
    """Return the logs that can be read, their runs, and the errors of the others; raises the error if none can."""
    readable, runs, damaged = [], [], []
    for path in paths:
        try:
            runs.append(read(path))
            readable.append(path)
        except UsageError as error:
            damaged.append(error)
    if not runs:
        raise damaged[0]
    return readable, runs, damaged


def _check_distinct(paths: Sequence[Path], runs: Sequence[Run]) -> None:
    """Refuse a run that is given twice: it would hide a missing one."""
    seen: dict[str, Path] = {}
    for path, run in zip(paths, runs, strict=True):
        first = seen.setdefault(encode(run.start), path)
        if first is not path:
            raise UsageError(f"{first} and {path} are the same run", hint="name each run once")


def _notes(paths: Sequence[Path], runs: Sequence[Run], left: Sequence[str]) -> Iterator[str]:
    """Return notes for the reader of the merged run."""
    suites = {run.start.suite_commit or "unknown": path for path, run in reversed(list(zip(paths, runs, strict=True)))}
    if len(suites) > 1:
        named = ", ".join(f"{commit} ({path})" for commit, path in reversed(suites.items()))
        yield f"these runs are of {len(suites)} versions of the suite, which may judge differently: {named}"
    for path, run in zip(paths, runs, strict=True):
        if interrupted(run):
            yield f"the run in {path}{f', shard {run.start.shard},' if run.start.shard else ''} was interrupted"
    if left:
        more = f"; and {len(left) - 1} more" if len(left) > 1 else ""
        yield f"some evidence was not copied: {left[0]}{more}"


def missing(runs: Sequence[Run]) -> list[Shard]:
    """Return the missing shares; UsageError if the shares have different numbers N."""
    shards = {Shard.parse(run.start.shard) for run in runs if run.start.shard}
    for run in runs:
        lacking = {Shard.parse(each) for each in run.start.missing}
        shards |= {each for shard in lacking for each in shard.siblings()} - lacking
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        raise UsageError(
            f"these are shards I/N with different N: {' and '.join(map(str, counts))}",
            hint="merge shards with the same N",
        )
    every = {each for shard in shards for each in shard.siblings()}
    return sorted(every - shards)


def _log(path: Path) -> Path:
    return path if path.name == NAME else path / NAME


def _write(run: Run, folder: Path) -> None:
    kernels: Sequence[str] = run.slugs
    with EventLog(folder / NAME) as log:
        log.write(run.start)
        for slug in kernels:
            log.write(run.kernel(slug))
        for slug in kernels:
            for case in run.cases.get(slug, ()):
                log.write(case)
        if run.finish is not None:
            log.write(run.finish)
    write_summary(run, folder)
