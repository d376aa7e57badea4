# SPDX-License-Identifier: GPL-2.0-only
"""The report as a web page: one file that loads nothing, says everything without scripts, and trusts no log.

Whatever comes out of the event log is escaped by the template engine, after `visible` has spelt out what a reader could
not see; the page's own policy allows it this style sheet and this script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment
from jinja2 import FileSystemLoader
from jinja2 import StrictUndefined
from markupsafe import Markup

from conformance.model import Verdict
from conformance.report import findings
from conformance.report import grid
from conformance.report.events import CaseEvent
from conformance.report.events import Run
from conformance.report.html.behaviour import gather
from conformance.report.html.behaviour import pair
from conformance.report.html.behaviour import tables
from conformance.report.html.evidence import Finding
from conformance.report.html.evidence import Witness
from conformance.report.html.matrix import matrices
from conformance.report.html.names import Anchors
from conformance.report.html.names import Citations
from conformance.report.html.names import visible

_HERE = Path(__file__).parent
_SIGNS: Mapping[str, tuple[str, str]] = {
    "pass": ("✓", "as expected"),
    "xfail": ("≈", "known deviation"),
    "skip": ("–", "skipped"),  # noqa: RUF001
    "fail": ("✗", "UNEXPECTED"),
    "xpass": ("!", "a known deviation is gone"),
    "splat": ("W", "kernel warning"),
    "panic": ("P", "kernel panic"),
    "hang": ("H", "hung"),
    "lost": ("L", "machine lost"),
    "infra": ("I", "could not be judged"),
    "": ("·", "not run"),
}
"""The verdicts, as tables show them."""


def render(run: Run) -> str:
    """Return the page."""
    cases = gather(run)
    redirects = {name: case for name, case in cases.items() if name in grid.redirect_ids()}
    others = {name: case for name, case in cases.items() if name not in redirects}
    asked = {slug: run.kernel(slug).spec for slug in run.slugs if run.cases.get(slug)}
    style, script = _style(len(asked)), _file("report.js")
    every = [event for case in cases.values() for event in case.values()]
    witness, cited = Witness(), Citations()
    unexpected = witness.findings(event for event in every if not event.verdict.expected)
    known = witness.findings(event for event in every if event.verdict is Verdict.XFAIL)
    flaky = witness.findings(
        event for event in every if event.verdict is Verdict.PASS and getattr(event, "flaky", False)
    )
    values = {
        "style": Markup(style),  # noqa: S704 - the page's own
        "script": Markup(script),  # noqa: S704 - the page's own
        "policy": _policy(style, script),
        "run": run,
        "specs": {slug: run.kernel(slug).spec for slug in run.slugs},
        "asked": asked,
        "sentence": findings.verdict(run),
        "tally": findings.tally(run),
        "about": findings,
        "matrices": matrices(redirects, list(asked)),
        "marks": grid.marks(event for case in redirects.values() for event in case.values()),
        "tables": list(tables(others, list(asked))),
        "unexpected": unexpected,
        "known": known,
        "flaky": flaky,
        "drawn": _drawn(unexpected, known, flaky),
        "anchor": Anchors().of,
        "cite": cited.cite,
        "commits": cited.subjects,
        "signs": _SIGNS,
        "kernels": lambda slugs: _kernels(run, slugs),
        "layouts": grid.LAYOUT_WORDS,
        "Verdict": Verdict,
    }
    return _environment().get_template("report.html.j2").render(values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _drawn(*found: Iterable[Finding]) -> set[tuple[str, str]]:
    """Return the cases that are told one by one, by id and slug."""
    told: set[tuple[str, str]] = set()
    for finding in itertools.chain(*found):
        cases: list[CaseEvent] = [*(drawer.case for drawer in finding.drawers), *finding.named]
        told.update((case.id, case.kernel) for case in cases)
    return told


def _kernels(run: Run, slugs: Sequence[str]) -> str:
    """Name kernels, neighbours in the order of the run together."""
    order = {slug: at for at, slug in enumerate(run.slugs)}
    runs = itertools.groupby(enumerate(slugs), key=lambda pair: order[pair[1]] - pair[0])
    named = [[run.kernel(slug).spec for _, slug in each] for _, each in runs]
    return ", ".join(f"{specs[0]} to {specs[-1]}" if len(specs) > 1 else specs[0] for specs in named)


def _style(kernels: int) -> str:
    """Return the style sheet, with a rule for each pair of kernels that can be compared."""
    pairs = [
        (f"body:has(#one-{one}:checked):has(#two-{two}:checked)", f":not([data-d~={pair(one, two)}])")
        for one, two in itertools.permutations(range(kernels), 2)
    ]
    aside = [
        f"body:has(.pair:checked):has(#one-{at}:not(:checked)):has(#two-{at}:not(:checked)) :is("
        f".kernel:nth-child({at + 1} of .kernel),.s i:nth-child({at + 1}),"
        f".behaviours tr:first-child>:nth-child({at + 2}))"
        for at in range(kernels)
    ]
    hidden = [f"{body} .b{same}" for body, same in pairs] + aside
    pale = [f"{body} .s{same}" for body, same in pairs]
    return f"{_file('report.css')}{','.join(hidden)}{{display:none}}\n{','.join(pale or ['.s .s'])}{{opacity:.13}}\n"


def _policy(style: str, script: str) -> str:
    """Return a content security policy under which only this style sheet and this script have any effect."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
