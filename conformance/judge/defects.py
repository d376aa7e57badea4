# SPDX-License-Identifier: GPL-2.0-only
"""Known defects: what a kernel does and no application could want.

The rows of the other tables say what a kernel should do. Where a kernel is known to differ, `defects.toml` and
`defects-PART.toml` of its group have `[[deviation]]` rows: `id`, `match`, `since`, `until`, `commit`, `subject` and
`reason` as in rules.py (`commit` is the one that mended it, else the one that brought it, else empty), and

    title    what is wrong, in one sentence for somebody who does not know the code; optional, else `reason`
    case     the id of the case that shows it best; optional, else the case that shows least beside it
    cve      its number, `CVE-2026-12345`, if it has one
    link     the address of a report, if there is one

and the exact symptom, at least one of

    answers  step -> answer of a stepwise group that this kernel gives instead; `absent`: the step is not there; of a
             group with a judge of its own, what its `answers` call a step: `outcome` of a redirect
    splat    a regular expression that the title of a report in the kernel log matches somewhere; with `chain`, one
             that the report itself matches, to name the functions it went through
    verdict  `hang`, `panic` or `lost`: what becomes of the machine; with `where`, a regular expression that matches
             what it then tells of where in the kernel it is

and `racy = true` if it is not certain to show: then it is not an `xpass` if it does not.

A defect has one row. Where it shows in several ways, `match` is a list, most readably one `[[deviation.match]]` a way:
each may say otherwise what the row says of `since`, `until`, `commit` (with its `subject`), `cve`, `link` and the
symptom, and counts as a row of its own when the kernel is judged.

A case whose symptom shows is `xfail`; if it shows no symptom and the promise that the symptom contradicts is seen to
hold, it is `xpass`: the row must go. Any third answer is a failure. Of several rows about one case all must show.
Anything else that is wrong still makes the case fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from conformance.expect.rules import Params, Rule, bad, name_of, read_rows, read_rule
from conformance.groups import GROUPS
from conformance.groups.group import Families
from conformance.groups.kinds import FAMILIES
from conformance.judge.klog import Report
from conformance.model import Case, Ground, Source, Verdict
from kernels.version import Version

HERE: Final = Path(__file__).parents[1] / "groups"
_SYMPTOM = ("answers", "splat", "verdict")
_TEXTS: Final = {"title": r".*", "case": r"[a-z_]+/[a-z0-9_.-]+", "cve": r"CVE-\d{4}-\d{4,}", "link": r"https://\S+"}
"""Keys whose value is text, and its form."""
_REST: Final = ("where", "chain", "racy", *_TEXTS)
_OWN: Final = frozenset({*_SYMPTOM, "where", "chain", "racy", "cve", "link", "since", "until", "commit", "subject"})
"""Keys that a match may override; its other keys are parameters."""
_ENDS = (Verdict.HANG, Verdict.PANIC, Verdict.LOST)


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a case showed, as far as a defect's symptom can describe it."""

    answers: Mapping[str, str]
    """Of its steps; empty where it did not answer, or has none."""
    reports: Sequence[Report] = ()
    """In its kernel log."""
    verdict: Verdict | None = None
    """What happened to the machine; None if it is alive."""
    console: str = ""
    """Where in the kernel it is, from the console, the kernel log or the worker's stack."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One `[[deviation]]` row, or one of its matches."""

    rule: Rule
    answers: Mapping[str, str]
    splat: re.Pattern[str] | None
    chain: re.Pattern[str] | None
    verdict: Verdict | None
    where: re.Pattern[str] | None
    title: str = ""
    case: str = ""
    cve: str = ""
    link: str = ""
    racy: bool = False

    def __str__(self) -> str:
        """Return its name."""
        return self.rule.id

    @property
    def harmful(self) -> bool:
        """Whether the kernel cannot be used any more once the defect has shown."""
        return self.splat is not None or self.verdict is not None

    def excuses(self, report: Report) -> bool:
        """Whether the row's splat matches a report."""
        entitled = self.splat is not None and self.splat.search(report.title) is not None
        return entitled and (self.chain is None or self.chain.search(report.text) is not None)

    def shows_in(self, symptom: Symptom) -> bool:
        """Whether the case showed exactly this symptom."""
        answered = all(symptom.answers.get(step, "absent") == answer for step, answer in self.answers.items())
        logged = self.splat is None or any(map(self.excuses, symptom.reports))
        there = self.where is None or self.where.search(symptom.console) is not None
        return answered and logged and there and symptom.verdict is self.verdict

    def as_ground(self) -> Ground:
        """Return the row as the ground of a verdict."""
        ground = self.rule.as_ground(self.answers, Source.DEFECT, self.link)
        return replace(ground, title=self.title, cve=self.cve)

    def because(self, version: Version) -> str:
        """Say what is wrong, with commit, first version and link."""
        return "; ".join(filter(None, [f"known defect {self}: {self.rule.because(version)}", self.cve, self.link]))


def deviations(case: Case, version: Version) -> tuple[Deviation, ...]:
    """Return the rows about this case that are in force on this kernel; UsageError for a row that is wrong."""
    return tuple(row for row in _in_force(case.group, version) if row.rule.matches(case.params))


def of_group(group: str) -> tuple[Deviation, ...]:
    """Return every row of a group."""
    return _rows(group)


def about(case: Case) -> tuple[Deviation, ...]:
    """Return the rows about this case on any kernel."""
    return tuple(row for row in _rows(case.group) if row.rule.matches(case.params))


def load(paths: Iterable[Path], universe: Sequence[Params], families: Families = FAMILIES) -> tuple[Deviation, ...]:
    """Read files of rows about cases with the parameters in `universe`."""
    return tuple(
        _row(where, variant, universe, families, name_of(path))
        for path in paths
        for where, row in read_rows(path, "deviation")
        for variant in _variants(where, row)
    )


def files(group: str) -> Iterator[Path]:
    """Yield the files about a group, in the order they are read."""
    return iter(sorted((HERE / group).glob("defects*.toml")))


@lru_cache(maxsize=256)
def _in_force(group: str, version: Version) -> tuple[Deviation, ...]:
    return tuple(row for row in _rows(group) if row.rule.in_force(version))


@cache
def _rows(group: str) -> tuple[Deviation, ...]:
    if group not in GROUPS:
        return load(files(group), ())
    subject = GROUPS[group]
    return load(files(group), [case.params for case in subject.cases()], subject.families)


def _variants(where: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the row once for each of its matches, with the keys that the match overrides."""
    matches = row.get("match")
    if not isinstance(matches, list):
        yield row
        return
    if not matches or not all(isinstance(match, dict) for match in matches):
        raise bad(where, f"'match' is a table or a list of tables, not {matches!r}")
    for match in matches:
        own = {key: value for key, value in match.items() if key in _OWN}
        # The subject belongs to the commit of the same match.
        kept = {key: value for key, value in row.items() if not ("commit" in own and key == "subject")}
        yield {**kept, **own, "match": {key: value for key, value in match.items() if key not in _OWN}}


def _row(where: str, row: dict[str, Any], universe: Sequence[Params], families: Families, file: str) -> Deviation:
    symptom = {key: row[key] for key in _SYMPTOM if key in row}
    if not symptom:
        raise bad(where, f"lacks a symptom: {', '.join(_SYMPTOM)}")
    answers: Any = symptom.get("answers", {})
    if not isinstance(answers, dict) or not all(isinstance(each, str) and each for each in answers.values()):
        raise bad(where, f"'answers' gives each step an answer, not {answers!r}")
    verdict = symptom.get("verdict")
    if verdict is not None and verdict not in _ENDS:
        raise bad(where, f"'verdict' is one of {', '.join(_ENDS)}, not {verdict!r}")
    if "where" in row and verdict is None:
        raise bad(where, "'where' needs a 'verdict'")
    if "chain" in row and "splat" not in row:
        raise bad(where, "'chain' needs a 'splat'")
    texts = {key: _text(where, key, form, row.get(key)) for key, form in _TEXTS.items()}
    racy: Any = row.get("racy", False)
    if not isinstance(racy, bool):
        raise bad(where, f"'racy' is true or false, not {racy!r}")
    rest = {key: value for key, value in row.items() if key not in (*_SYMPTOM, *_REST)}
    rest["outcome"] = "deviates"
    rule = read_rule(where, rest, universe, None, families, file)
    splat, chain, console = (_pattern(where, row, key) for key in ("splat", "chain", "where"))
    ends = Verdict(verdict) if verdict else None
    return Deviation(rule, answers, splat, chain, ends, console, racy=racy, **texts)


def _text(where: str, key: str, form: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value or not re.fullmatch(form, value):
        raise bad(where, f"{key!r} is {'text' if form == '.*' else f'text like {form}'}, not {value!r}")
    return value


def _pattern(where: str, row: dict[str, Any], key: str) -> re.Pattern[str] | None:
    try:
        return re.compile(row[key]) if key in row else None
    except (re.error, TypeError) as error:
        raise bad(where, f"'{key}' is not a regular expression: {error}") from None
