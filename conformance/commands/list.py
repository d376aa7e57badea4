# SPDX-License-Identifier: GPL-2.0-only
"""`conform list`: list the cases, without a kernel."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from common.errors import ExitCode
from common.program import here
from common.say import put, say
from conformance.groups import GROUPS, cases
from conformance.model import Case
from conformance.report.style import Style
from conformance.run.selection import Wanted, choose, require

_ANY = "any"
"""Stands for the slug of a kernel: none is named."""


def list_cases(options: argparse.Namespace) -> int:
    """Print the ids of the selected cases; without a selection, the number of cases of each kind."""
    wanted = Wanted(globs=tuple(options.case or ()), expression=options.k or "", stressed=True)
    chosen = list(require(wanted, [_ANY], cases())[_ANY].values())
    if options.json:
        say(json.dumps([_object(case) for case in chosen]))
    elif options.case or options.k:
        put((case.id for case in chosen), sys.stdout)
    else:
        usual = choose(Wanted(), [_ANY], cases())[_ANY]
        put(overview(chosen, stressed=len(chosen) - len(usual)), sys.stdout)
    return int(ExitCode.OK)


def overview(chosen: Sequence[Case], *, stressed: int) -> Iterator[str]:
    """Return a line for each group, and the number of cases of each mode and kind."""
    for group, each in GROUPS.items():
        of_group = [case for case in chosen if case.group == group]
        if not of_group:
            continue
        yield f"{len(of_group):6}  {group}{'  (only with --stress SECONDS)' if each.stress else ''}"
        for name in ("mode", "kind", "target", "in", "out"):
            counts = Counter(case.params[name] for case in of_group if name in case.params)
            if counts:
                said = ", ".join(f"{value} {count}" for value, count in counts.items())
                yield from Style().wrap(said, first=f"{'':8}{name}: ", then=" " * 10)
    yield f"{len(chosen) - stressed:6}  in all; {stressed} more with --stress"
    yield ""
    yield here("ids: ./conform list --case GROUP; one case: ./conform explain ID")


def _object(case: Case) -> dict[str, object]:
    return {"id": case.id, "group": case.group, "name": case.name, "params": dict(case.params)}
