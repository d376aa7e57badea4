# SPDX-License-Identifier: GPL-2.0-only
"""The first kernel with each feature, as JSON (which is YAML, too): derived from runs, not from expectations.

A feature is a row of `features.toml`: the cases of a group whose parameters `match` share it under its `name`, in which
`{parameter}` stands for its value. A kernel has the feature if all of them gave one of the answers in `shown_by`, by
step (`outcome` is that of a redirect case); it lacks it if one of them gave another. A case that was skipped, is
flaky or got its kernel into trouble says nothing, and so does one that was not run.

    {"feature": "insert/vsock_stream", "since": "6.12.107", "not_in": "6.1.192", "kernels": {"debian-6.1": false, …}}

`since` is the oldest kernel seen that has it, `not_in` the newest seen that lacks it; null if none was seen. Kernels
between the two were not asked.
"""

from __future__ import annotations

import functools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.model import Verdict
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from kernels.version import Version

_SCHEMA = 1
_ANSWERED = (Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.XPASS)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of features.toml."""

    name: str
    group: str
    match: Mapping[str, str | list[str]]
    shown_by: Mapping[str, list[str]]

    def matches(self, case: CaseEvent) -> bool:
        """Return whether the case is about this feature."""
        wanted = ((name, [value] if isinstance(value, str) else value) for name, value in self.match.items())
        return case.group == self.group and all(case.params.get(name) in values for name, values in wanted)


def render(run: Run) -> str:
    """Return the table; kernels oldest first, features by name."""
    versions = {slug: Version.parse(run.kernel(slug).version) for slug in run.slugs if run.kernel(slug).version}
    slugs = sorted(versions, key=lambda slug: (versions[slug], slug))
    seen: dict[str, dict[str, bool]] = {}
    for slug in slugs:
        for case in run.cases.get(slug, ()):
            for feature, has in _answers(case):
                known = seen.setdefault(feature, {})
                known[slug] = known.get(slug, True) and has
    kernels = [_identity(run, slug) for slug in slugs]
    features = [_line(run, feature, seen[feature]) for feature in sorted(seen)]
    whole = {"schema": _SCHEMA, "suite_commit": run.start.suite_commit}
    return (
        f"{json.dumps(whole)[:-1]},\n"
        f' "kernels": [\n{_listed(kernels)}\n ],\n'
        f' "features": [\n{_listed(features)}\n ]}}\n'
    )


def _answers(case: CaseEvent) -> Iterator[tuple[str, bool]]:
    """Yield each feature that a case is about, and whether its kernel has it."""
    if case.verdict not in _ANSWERED or case.flaky:
        return
    given: Mapping[str, Any] = {"outcome": case.observed, **((case.observation or {}).get("steps") or {})}
    for row in _rows():
        if row.matches(case):
            # A case may lack steps on a kernel: after a refusal it stops.
            yield row.name.format(**case.params), all(given.get(step) in those for step, those in row.shown_by.items())


def _line(run: Run, feature: str, has: Mapping[str, bool]) -> dict[str, Any]:
    """Return a line of the table; the kernels in `has` are in order."""
    since = next((slug for slug in has if has[slug]), None)
    not_in = next((slug for slug in list(has)[::-1] if not has[slug]), None)
    return {
        "feature": feature,
        "since": run.kernel(since).version if since else None,
        "not_in": run.kernel(not_in).version if not_in else None,
        "kernels": {slug: has[slug] for slug in has},
    }


def _identity(run: Run, slug: str) -> dict[str, str]:
    kernel = run.kernel(slug)
    return {"kernel": slug, "spec": kernel.spec, "version": kernel.version, "release": kernel.release}


def _listed(lines: list[dict[str, Any]]) -> str:
    """Write one object a line, for diff and grep."""
    return ",\n".join(f"  {json.dumps(line)}" for line in lines)


@functools.cache
def _rows() -> tuple[_Row, ...]:
    text = Path(__file__).with_name("features.toml").read_text(encoding="utf-8")
    return tuple(_Row(**row) for row in tomllib.loads(text)["feature"])
