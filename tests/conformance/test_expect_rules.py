# SPDX-License-Identifier: GPL-2.0-only
"""The loader of the expectation tables: strict, and right about versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.expect.rules import RuleTable
from kernels.version import Version

UNIVERSE = [{"kind": kind, "mode": mode} for kind in ("a4", "a6", "b") for mode in ("x", "y") if kind + mode != "by"]
FAMILIES = {"a": ("a4", "a6")}
ROW = {
    "id": '"one"',
    "match": '{ kind = ["a"] }',
    "since": '{ mainline = "5.13" }',
    "outcome": '"ok"',
    "commit": '"0123456789ab"',
    "reason": '"because"',
}


def row(**changes: str | None) -> str:
    """Return a row as TOML; None leaves a key out."""
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in (ROW | changes).items() if value is not None)


def load(tmp_path: Path, text: str) -> RuleTable:
    """Load a table of that text."""
    path = tmp_path / "table.toml"
    path.write_text(text)
    return RuleTable.load(path, universe=UNIVERSE, outcomes={"ok", "EINVAL"}, families=FAMILIES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row(colour='"red"'), "unknown key 'colour'"),
        (row(reason=None), "lacks 'reason'"),
        (row(reason="1"), "'reason' is text"),
        (row(outcome='"fine"'), "unknown outcome 'fine'"),
        (row(commit='"HEAD"'), "hex digits"),
        (row(match='{ kind = ["c"] }'), "'kind' has the unknown value 'c'"),
        (row(match='{ sort = ["a"] }'), "no case has a parameter 'sort'"),
        (row(match='{ kind = "a" }'), "list of values"),
        (row(match="{ kind = [] }"), "list of values"),
        (row(match="{ kind = [[1]] }"), "list of values"),
        (row(match='{ kind = ["b"], mode = ["y"] }'), "matches no case"),
        (row(match='"all"'), "'match' is a table"),
        (row(since='"5.13"'), "'since' is a table"),
        (row(since='{ "5.10" = "5.10.1" }'), "'since' is a table"),
        (row(since='{ mainline = "soon" }'), "'soon' is not a kernel version"),
        (row(since="{ mainline = 5.13 }"), "is not a kernel version"),
        (row(since='{ mainline = "5.13", "5.10" = "5.15.1" }'), "not on the branch 5.10"),
        (row(until='{ mainline = "5.13" }'), "ends (5.13) before it begins (5.13)"),
        (row(id='"One!"'), "needs an id"),
        (row(id=None), "needs an id"),
    ],
)
def test_a_malformed_row_is_refused_with_file_and_row(tmp_path: Path, text: str, message: str) -> None:
    """A malformed row is an error that names file and row."""
    with pytest.raises(UsageError) as error:
        load(tmp_path, row(id='"zero"') + text)
    assert str(error.value).startswith("table.toml, row 2")
    assert message in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (row() + row(), "table.toml, row 2 (one): its id is taken"),
        ('version = "1"\n' + row(), "table.toml: unknown key 'version'"),
        ("[[rule]\n", "table.toml: not TOML"),
        ('rule = "all"\n', "table.toml, row 1: needs an id"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Unknown keys besides the rows are refused."""
    with pytest.raises(UsageError, match=message.replace("(", r"\(").replace(")", r"\)")):
        load(tmp_path, text)


def found(table: RuleTable, version: str, kind: str = "a4") -> str | None:
    """Return the id of the row that decides."""
    rule = table.find({"kind": kind, "mode": "x"}, Version.parse(version))
    return rule.id if rule else None


def test_a_family_stands_for_its_kinds(tmp_path: Path) -> None:
    """`a` is every kind of the family a, and no other."""
    table = load(tmp_path, row())
    assert found(table, "5.13", "a4") == found(table, "5.13", "a6") == "one"
    assert found(table, "5.13", "b") is None


def test_the_last_row_in_force_wins(tmp_path: Path) -> None:
    """A special row comes after the general one and overrides it while it is in force."""
    table = load(tmp_path, row() + row(id='"two"', since='{ mainline = "6.1" }', until='{ mainline = "6.4" }'))
    assert [found(table, version) for version in ("5.12", "5.13", "6.0.9", "6.1", "6.3.7", "6.4")] == [
        None,
        "one",
        "one",
        "two",
        "two",
        "one",
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("6.5.99", None),
        ("6.6.58", None),
        ("6.6.59", "one"),
        ("6.7.12", None),
        ("6.11.5", None),
        ("6.11.6", "one"),
        ("6.12-rc3", None),
        ("6.12-rc4", "one"),
        ("6.12", "one"),
        ("7.3.4", "one"),
    ],
)
def test_a_backport_counts_on_its_own_branch(tmp_path: Path, version: str, expected: str | None) -> None:
    """A branch that a row names has its own first version; all others follow mainline."""
    since = '{ mainline = "6.12-rc4", "6.6" = "6.6.59", "6.11" = "6.11.6" }'
    assert found(load(tmp_path, row(since=since)), version) == expected


def test_the_reason_names_commit_and_first_version_on_the_branch(tmp_path: Path) -> None:
    """What a report prints lets the reader find the change."""
    table = load(tmp_path, row(since='{ mainline = "6.12", "6.6" = "6.6.59" }', subject='"net: do it"'))
    for version, since in (("6.6.60", "6.6.59"), ("6.18.15", "6.12")):
        rule = table.find({"kind": "a4", "mode": "x"}, Version.parse(version))
        assert rule
        assert rule.because(Version.parse(version)) == f'because (0123456789ab "net: do it", since {since})'
