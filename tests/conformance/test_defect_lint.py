# SPDX-License-Identifier: GPL-2.0-only
"""What the rows of known defects and hazards must say so that none of them excuses more than one defect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from conformance.groups import GROUPS, cases
from conformance.groups.redirect.expectation import expected_outcome
from conformance.judge import defects, needs
from conformance.judge.defects import Deviation
from conformance.model import KernelFacts
from kernels.version import Version

TABLES = sorted(defects.HERE.glob("*/*.toml"))
CASES = {case.id: case for case in cases()}
HEDGING = re.compile(r"\b(?:reckon\w*|guess\w*|presumably|estimat\w*)\b", re.IGNORECASE)
WILD = re.compile(r"\.[*+]|\(\?s")
"""What matches anything at all."""
CHAINS: Mapping[str, str] = {"(?s:.*)": "from one function of a stack to a later one"}
VERSIONS = ("5.10.262", "5.15.100", "6.1.192", "6.6.20", "6.6.60", "6.11.5", "6.12.118", "6.18.15", "7.3.4")


def rows() -> Iterator[Deviation]:
    """Yield every row about every group."""
    for group in GROUPS:
        yield from defects.of_group(group)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_version_has_a_source(path: Path) -> None:
    """A version that nobody read in a changelog, a record or a source has no place in a bound."""
    assert not HEDGING.search(path.read_text())


def test_a_defect_has_a_case_that_shows_it() -> None:
    """The case that a row names is one there is, and one that the row is about."""
    shown = {(row.rule.file, str(row)): row.case for row in rows() if row.case}
    for row in rows():
        about = [case.id for case in cases() if case.group in row.rule.file and row in defects.about(case)]
        assert about, row
    for (file, name), case in shown.items():
        assert case in CASES, (file, name)
        assert name in {str(row) for row in defects.about(CASES[case])}, (file, name)


def test_a_report_is_named_by_its_functions() -> None:
    """A pattern that matches every report would excuse every bug."""
    for row in rows():
        for pattern in filter(None, (row.splat, row.chain, row.where)):
            text = pattern.pattern
            for allowed in CHAINS:
                text = text.replace(allowed, "")
            assert not WILD.search(text), (row, pattern.pattern)
            assert all(re.search(r"[a-z]{4}", part) for part in text.split("|")), (row, pattern.pattern)


def test_a_fixed_defect_has_an_end() -> None:
    """A row whose commit is a fix, or has a CVE number, ends or begins with that commit's version."""
    for row in rows():
        rule = row.rule
        fixes = re.search(r"\b[Ff]ix|[Rr]eject|[Dd]isallow|[Pp]revent", rule.subject)
        began = str(rule.since.mainline) == FIRST_WITH.get(rule.commit)
        assert rule.until or not (fixes or row.cve) or began, row


FIRST_WITH = {
    # Commits that fixed one defect, and introduced that of the row or changed its symptom.
    "929e30f93125": "6.19.4",
    "c5d2177a72a1": "5.16",
    "901546fd8f9c": "6.4",
    "e5c6de5fa025": "6.4",
    "36b62df5683c": "6.14",
    "a351d6087bf7": "6.2",
}


def test_a_hazard_is_a_known_defect_with_the_same_bounds() -> None:
    """A hazard is listed as a known defect, and one case that shows it is asked nevertheless."""
    for need in needs.load(needs.NEEDS):
        if not need.hazard:
            continue
        group, _, name = need.defect.partition("/")
        known = [row for row in defects.of_group(group) if str(row) == name]
        assert known, need.id
        assert all(
            (row.rule.since.versions(), row.rule.until) == (need.since and need.since.versions(), need.until)
            for row in known
        )
        assert all(row.verdict and row.case in CASES for row in known), need.id
        facts = KernelFacts(known[0].rule.since.mainline, {})
        assert needs.unmet(CASES[known[0].case], facts) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_the_sticky_drop_shows_wherever_sending_is_refused(version: str) -> None:
    """The row is in force for exactly the cases in which SK_MSG drops every message."""
    facts = KernelFacts(Version.parse(version), {})
    refused = {each.id for each in GROUPS["redirect"].cases() if expected_outcome(each, facts).name == "refused-EACCES"}
    known = {each.id for each in GROUPS["redirect"].cases() if defects.deviations(each, facts.version)}

    assert refused == known
