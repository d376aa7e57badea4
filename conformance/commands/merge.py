# SPDX-License-Identifier: GPL-2.0-only
"""`conform merge`: the logs of several machines, or of several jobs, become the results of one run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import ExitCode
from common.errors import UsageError
from conformance.report.events import NAME
from conformance.report.events import EventLog
from conformance.report.events import Run
from conformance.report.events import read
from conformance.report.exit_code import exit_code_of
from conformance.report.merge import merged
from conformance.report.style import Style
from conformance.report.summary import write_summary
from conformance.report.text import verdict_lines
from conformance.run.results import Claim
from conformance.run.results import closing_lines
from conformance.run.shard import Shard


def merge(options: argparse.Namespace) -> int:
    """Write the results of all as those of one run, and return its exit code; 125 if a share is missing."""
    output = Path(options.output)
    paths = [Path(each) for each in options.directory]
    if any(_log(path).resolve() == _log(output).resolve() for path in paths):
        raise UsageError(f"--output {output} is one of the runs to merge", hint="choose a folder of its own")
    runs = [read(path) for path in paths]
    lacking = missing(runs)
    run = merged(runs)
    run.start = replace(run.start, shard="")
    code = exit_code_of(run)
    if lacking and code is ExitCode.OK:
        code = ExitCode.CANNOT_JUDGE
    if run.finish is not None:
        run.finish = replace(run.finish, exit_code=int(code))
    with Claim(output):
        _write(run, output)
    print("\n".join(verdict_lines(run, Style.of(sys.stdout))))
    print("".join(f"{line}\n" for line in closing_lines(output, run, resumable=False)), end="")
    for shard in lacking:
        print(f"conform: shard {shard} is missing", file=sys.stderr)
    return int(code)


def missing(runs: Iterable[Run]) -> list[Shard]:
    """Return the shares that are not there; UsageError if they are of different divisions."""
    shards = {Shard.parse(run.start.shard) for run in runs if run.start.shard}
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        raise UsageError(
            f"these are shares of different divisions: by {' and by '.join(map(str, counts))}",
            hint="merge the shards of one division",
        )
    every = {Shard(number, count) for count in counts for number in range(1, count + 1)}
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
