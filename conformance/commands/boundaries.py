# SPDX-License-Identifier: GPL-2.0-only
"""`conform boundaries`: the pair of real kernels that proves each version boundary of the tables."""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from common.errors import ExitCode, UsageError
from common.say import put, say
from conformance.judge.boundaries import Boundary, boundaries
from conformance.report.events import read
from conformance.report.style import Style
from kernels.archive import catalogue
from kernels.version import Version

_DAY = 24 * 3600.0


def list_boundaries(options: argparse.Namespace) -> int:
    """Print the boundaries with the kernels that prove them, or ask those kernels; 1 if a kernel contradicts."""
    chosen = [each for each in boundaries() if _wanted(each, options.only)]
    if not chosen:
        raise UsageError(f"--only {options.only} matches no boundary", hint="a commit, branch, version or glob")
    specs = {offer.version: f"debian:{offer.abi}" for offer in catalogue(max_age=_DAY).offers if not offer.cloud}
    if options.prove:
        return _prove(chosen, specs)
    put(_lines(chosen, specs, Style.of(sys.stdout)), sys.stdout)
    return int(ExitCode.OK)


def _wanted(boundary: Boundary, pattern: str) -> bool:
    named = (boundary.commit, boundary.branch, str(boundary.version))
    return not pattern or any(fnmatch.fnmatchcase(each, pattern) for each in named)


def _lines(chosen: Sequence[Boundary], specs: Mapping[Version, str], style: Style) -> Iterator[str]:
    proved = sum(each.proof() is not None for each in chosen)
    reach = sum(each.pair(list(specs)) is not None for each in chosen)
    yield style.paint(
        f"{len(chosen)} boundaries after 6.12; proved: {proved}; kernels on both sides are available for {reach}",
        "strong",
    )
    for each in chosen:
        yield ""
        where = "mainline" if each.branch == "mainline" else f"on {each.branch}"
        yield from style.wrap(f'{each.version} {where}: {each.commit} "{each.subject}"')
        proof, pair = each.proof(), each.pair(list(specs))
        if proof is not None:
            yield from style.wrap(f"proved by {proof.before} and {proof.after}, {proof.date}, {proof.case}", first="  ")
        elif pair is not None:
            yield from style.wrap(f"not tested; {specs[pair[0]]} and {specs[pair[1]]} would prove it", first="  ")
        else:
            yield "  not tested; no kernels on both sides are available"
        yield from style.wrap(f"case {each.case}", first="  ")
        yield from (f"  row  {row}" for row in each.rows)


def _prove(chosen: Sequence[Boundary], specs: Mapping[Version, str]) -> int:
    """Judge the case on both kernels of each pair, and print the proofs as rows of proved.toml."""
    contradicted = False
    for each in chosen:
        pair = each.pair(list(specs))
        if pair is None or each.proof() is not None:
            continue
        releases = [_release(specs[version], each.case) for version in pair]
        if not all(releases):
            contradicted = True
            say(f"# {each.commit} on {each.branch}: a kernel does not behave as the tables say, or cannot be judged")
            continue
        today = datetime.now(UTC).date()
        proof = {"commit": each.commit, "branch": each.branch, "before": releases[0], "after": releases[1]}
        fields = {**proof, "case": each.case, "date": today}
        put(["[[proof]]", *(f'{key} = "{value}"' for key, value in fields.items()), ""], sys.stdout)
    return int(ExitCode.UNEXPECTED if contradicted else ExitCode.OK)


def _release(spec: str, case: str) -> str:
    """Return the release of a kernel that answers a case as the tables say; empty if it does not."""
    with tempfile.TemporaryDirectory(prefix="conform-boundary-") as folder:
        results = Path(folder) / "results"
        # fmt: off
        command = [
            sys.executable, "-P", "-m", "conformance", "run",
            "--kernel", spec,
            "--case", case,
            "--results", os.fspath(results),
            "-n", "1",
        ]
        # fmt: on
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if done.returncode != ExitCode.OK:
            return ""
        run = read(results)
        (slug,) = run.slugs
        judged = run.cases.get(slug, [])
        return run.kernel(slug).release if judged and all(each.verdict != "skip" for each in judged) else ""
