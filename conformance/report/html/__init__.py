# SPDX-License-Identifier: GPL-2.0-only
"""The report as a web page: one file that loads nothing, says everything without scripts, and trusts no log.

Whatever comes out of the event log is escaped by the template engine, after `visible` has spelt what a reader could not
see; the page's own policy allows it this style sheet and this script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.foreign import visible
from conformance.expect.words import answer_words
from conformance.groups import GROUPS
from conformance.groups.redirect.cases import LAYOUTS
from conformance.model import Verdict
from conformance.report import findings, grid
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.report.html.behaviour import (
    COMPARED,
    Judged,
    answers_of,
    differing,
    gather,
    pair,
    steps_in_words,
    tables,
)
from conformance.report.html.evidence import EvidencePicker
from conformance.report.html.matrix import matrices
from conformance.report.html.names import Anchors, Reasons, cited
from conformance.report.known import known_defects

_HERE = Path(__file__).parent
_WORDS = 200_000
"""Characters of reasons in tables; if there are more, each is given once and referred to by number."""
_SIGNS: Mapping[str, tuple[str, str]] = {
    "pass": ("✓", "as expected"),
    "xfail": ("≈", "known defect"),
    "skip": ("–", "skipped"),  # noqa: RUF001
    "fail": ("✗", "UNEXPECTED"),
    "xpass": ("!", "a known defect is gone"),
    "splat": ("W", "kernel warning"),
    "panic": ("P", "kernel panic"),
    "hang": ("H", "hung"),
    "lost": ("L", "machine lost"),
    "infra": ("I", "could not be judged"),
    "": ("·", "not run"),
}
"""The verdicts, as tables show them."""
_VERDICTS: Mapping[str, str] = {
    "pass": "the kernel did what it owes",
    "xfail": "the kernel showed a known defect, and nothing else was wrong",
    "skip": "this kernel cannot make the socket or the program that the case needs",
    "fail": "the kernel did something else",
    "xpass": "a known defect did not show any more",
    "splat": "the kernel log holds a warning or an error report",
    "panic": "the kernel died",
    "hang": "the case did not end by its deadline",
    "lost": "the machine vanished, or sent malformed data",
    "infra": "the host failed: this says nothing about the kernel",
    "": "the case was not run on this kernel",
}


def render(run: Run) -> str:
    """Return the page."""
    cases, specs = gather(run), _specs(run)
    asked = {slug: spec for slug, spec in specs.items() if run.cases.get(slug)}
    style, script = _style(min(len(asked), COMPARED)), _file("report.js")
    reasons = Reasons()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            _findings([event for case in cases.values() for event in case.values()]),
            **_tables(cases, list(asked)),
            style=Markup(style),  # noqa: S704 - the page's own
            script=Markup(script),  # noqa: S704 - the page's own
            policy=_policy(style, script),
            run=run,
            specs=specs,
            asked=asked,
            compared=list(asked.values())[:COMPARED],
            about=findings,
            kernels=lambda slugs: _kernels(specs, slugs),
            anchor=Anchors().of,
            reasons=reasons,
            signs=_SIGNS,
            verdicts=_VERDICTS,
            layouts={name: layout.words for name, layout in LAYOUTS.items() if layout.words},
            promises={name: group.promise for name, group in GROUPS.items()},
            steps=steps_in_words(cases.values()),
            answers=answer_words(answers_of(cases.values())),
            Verdict=Verdict,
        )
    )


def _tables(cases: Mapping[str, Judged], slugs: Sequence[str]) -> dict[str, Any]:
    """Return the tables of cases, grouped by their answers, by the name that the template uses."""
    redirects = {name: case for name, case in cases.items() if name in grid.redirect_ids()}
    others = {name: case for name, case in cases.items() if name not in redirects}
    listed = list(tables(others, slugs))
    rows = (row for _, group in listed for table in group for row in table.rows)
    shared = (answer for row in rows for answer in row.behaviour.answers)
    return {
        "matrices": matrices(redirects, slugs),
        "marks": grid.marks(event for case in redirects.values() for event in case.values()),
        "tables": listed,
        "brief": sum(len(each.answer.reason) for each in shared) > _WORDS,
        "differing": list(differing(cases.values(), slugs)),
    }


def _findings(events: Sequence[CaseEvent]) -> dict[str, Any]:
    """Return the evidence of single cases, by the name that the template uses; unexpected cases get room first."""
    picker = EvidencePicker()
    unexpected = picker.findings(event for event in events if not event.verdict.expected)
    spoken = [event for event in events if event.verdict.expected and (event.flaky or event.log)]
    known = picker.findings(event for event in spoken if event.verdict is Verdict.XFAIL)
    aside = picker.findings(event for event in spoken if event.verdict is not Verdict.XFAIL)
    shown = [*unexpected, *known, *aside]
    return {
        "unexpected": unexpected,
        "known": known,
        "aside": aside,
        "drawn": {(case.id, case.kernel) for finding in shown for case in finding.cases},
        "deviations": known_defects(event for event in events if event.verdict is Verdict.XFAIL),
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cited"] = cited
    return environment


def _specs(run: Run) -> dict[str, str]:
    """Return each kernel's spec, with its slug if two kernels have the same spec, as in a merged run."""
    specs = [run.kernel(slug).title for slug in run.slugs]
    return {
        slug: spec if specs.count(spec) == 1 else f"{spec} ({slug})"
        for slug, spec in zip(run.slugs, specs, strict=True)
    }


def _kernels(specs: Mapping[str, str], slugs: Sequence[str]) -> str:
    """Name kernels; adjacent kernels of the run are grouped."""
    order = {slug: at for at, slug in enumerate(specs)}
    runs = itertools.groupby(enumerate(slugs), key=lambda pair: order[pair[1]] - pair[0])
    named = [[specs[slug] for _, slug in each] for _, each in runs]
    return ", ".join(f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0] for names in named)


def _style(kernels: int) -> str:
    """Return the style sheet, with a rule for each pair of kernels that can be compared."""
    pairs = [
        (f"body:has(#one-{one}:checked):has(#two-{two}:checked)", f"[data-d~={pair(one, two)}]")
        for one, two in itertools.permutations(range(kernels), 2)
    ]
    aside = [f"body:has(.pair:checked) {_columns(f'n+{kernels + 1}', f'n+{kernels + 2}')}"]
    aside += [
        f"body:has(.pair:checked):has(#one-{at}:not(:checked)):has(#two-{at}:not(:checked)) {_columns(at + 1, at + 2)}"
        for at in range(kernels)
    ]
    rules = {
        "display:none": [f"{body} :is(.b:not({which}),.question:not(:has({which})))" for body, which in pairs] + aside,
        "opacity:.13": [f"{body} .s:not({which})" for body, which in pairs],
        "display:block": [f"{body} .differ {which}" for body, which in pairs],
    }
    made = "".join(f"{','.join(selectors)}{{{rule}}}\n" for rule, selectors in rules.items() if selectors)
    return _file("report.css") + made


def _columns(at: object, in_table: object) -> str:
    """Select the parts of the page about one kernel or more: matrices, parts of strips, columns of tables."""
    return (
        f":is(.kernel:nth-child({at} of .kernel),:is(.s i,.order li):nth-child({at}),"
        f".behaviours tr:first-child>:nth-child({in_table}))"
    )


def _policy(style: str, script: str) -> str:
    """Return a content security policy under which only this style sheet and this script have any effect."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
