# SPDX-License-Identifier: GPL-2.0-only
"""`conform defects`: the known defects from the tables alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.errors import ExitCode
from conformance import cli
from conformance.groups import cases
from conformance.judge.catalogue import catalogue, on
from conformance.judge.defects import deviations
from kernels.version import Version


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the command prints."""
    assert cli.main(["defects", *arguments]) == ExitCode.OK
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """Return the defects that the command lists, by their ids."""
    return {each["id"]: each for each in json.loads(output_of(capsys, "--json", *arguments))}


def test_open_defects_come_first_and_of_those_the_ones_with_a_number() -> None:
    """Open defects come first, those with a CVE number before others."""
    order = [(not each.open, not each.cves) for each in catalogue()]

    assert order == sorted(order)
    assert {True, False} == {each.open for each in catalogue()}


def test_a_defect_has_all_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    """Title, cause, kernels by branch, commit, number and case are fields, not a sentence."""
    taken = listed(capsys)["unhashed-udp-taken"]

    assert taken["title"].startswith("A map accepts a UDP socket that has no port")
    assert (taken["open"], taken["cve"], taken["case"]) == (False, ["CVE-2026-68386"], "insert/sockmap-udp4-fresh")
    (span,) = taken["kernels"]
    assert span["fixed_in"]["6.12"] == "6.12.101"
    assert (span["commit"], span["since"]) == ("66efd3368ae1", {"mainline": "5.15"})


@pytest.mark.parametrize(
    ("version", "there", "not_there"),
    [
        ("6.12.100", "unhashed-udp-taken", "drained-stuck"),
        ("6.12.101", "sticky-drop", "unhashed-udp-taken"),
        ("5.10.262", "sockhash-taken-for-sockmap", "child-deaf"),
    ],
)
def test_a_kernel_has_the_defects_of_its_version(
    capsys: pytest.CaptureFixture[str], version: str, there: str, not_there: str
) -> None:
    """Only ranges with the version count, and each named case shows the defect on it."""
    found = listed(capsys, "--version", version)

    assert there in found
    assert not_there not in found
    known = {case.id: {str(row) for row in deviations(case, Version.parse(version))} for case in cases()}
    assert [each for each, facts in found.items() if each not in known[facts["case"]]] == []


def test_only_open_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Only defects of the newest known kernel are listed."""
    found = listed(capsys, "--open")

    assert "child-deaf" in found
    assert all(each["open"] for each in found.values())
    assert set(found) < set(listed(capsys))


def test_ways_with_one_end_are_one_range() -> None:
    """A kind of socket that is newer does not add a range of kernels."""
    (shifted,) = [each for each in catalogue() if each.id == "queue-shifted"]
    ((since, until),) = [(span.since, span.until) for span in shifted.spans()]

    assert (since, until) == ({"mainline": "5.13"}, {})
    assert shifted not in on(Version.parse("5.10.262"))


def test_text_and_markdown_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Each defect has a title, its kernels and a command; Markdown's special characters are escaped."""
    text, markdown = output_of(capsys, "--version", "6.1.192"), output_of(capsys, "--markdown", "--version", "6.1.192")

    assert text.splitlines()[0] == markdown.splitlines()[0].removeprefix("# ")
    for each in on(Version.parse("6.1.192")):
        assert each.case(Version.parse("6.1.192")) in text
        assert f"./conform run --case {each.case(Version.parse('6.1.192'))}" in markdown
    assert "bpf\\_sk\\_redirect\\_map()" in markdown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--version", "x"], "--version x is not a kernel version"),
        (["--version", "4.19"], "the tables begin at 5.10, not at 4.19"),
        (["--version", "6.1", "--kernel", "host"], "--kernel and --version both name a kernel"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """What is wrong, and what to do."""
    assert cli.main(["defects", *arguments]) == ExitCode.BROKEN
    assert sentence in capsys.readouterr().err
