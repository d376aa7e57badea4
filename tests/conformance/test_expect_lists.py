# SPDX-License-Identifier: GPL-2.0-only
"""Allow, deny and splat lists: exact patterns, and errors for entries that match nothing or have expired."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.judge.lists import KernelRange, Lists, read_lists
from conformance.model import Source
from kernels.version import Version

CASES = ("redirect/sockmap-tcp4", "redirect/sockmap-tcp4-self", "insert/tcp4", "a_test/x", "a_test_two/x")
NOTES = "loses a byte; link=https://example.org/1; kernel=all; until=2027-03-01"
DAY = dt.date(2027, 3, 1)


def read(folder: Path, *, allow: str = "", deny: str = "", splats: str = "", today: dt.date = DAY) -> Lists:
    """Write lists and read them."""
    paths: dict[str, list[str]] = {}
    for name, text in {"allow": allow, "deny": deny, "splats": splats}.items():
        (folder / name).write_text(text)
        paths[name] = [str(folder / name)] if text else []
    return read_lists(**paths, universe=CASES, today=today)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("redirect", {"redirect/sockmap-tcp4", "redirect/sockmap-tcp4-self"}),
        ("redirect/*", {"redirect/sockmap-tcp4", "redirect/sockmap-tcp4-self"}),
        ("redirect/sockmap-tcp4", {"redirect/sockmap-tcp4"}),
        ("*/*tcp4", {"redirect/sockmap-tcp4", "insert/tcp4"}),
        ("a_test", {"a_test/x"}),
        ("*", set(CASES)),
    ],
)
def test_an_entry_names_whole_components(tmp_path: Path, pattern: str, named: set[str]) -> None:
    """Globs stay within a component, a group means all its cases, and `a_test` is not `a_test_two`."""
    lists = read(tmp_path, deny=f"{pattern}  # {NOTES}\n")

    assert {case for case in CASES if lists.refusal(case, Version(6, 12))} == named


def test_a_denied_case_says_why(tmp_path: Path) -> None:
    """The reason of a skip is the entry's, with its link and the day it ends."""
    lists = read(tmp_path, deny=f"# a comment\n\ninsert/tcp4 # {NOTES}\n")

    wanted = "denied: loses a byte (https://example.org/1, until 2027-03-01)"
    refusal = lists.refusal("insert/tcp4", Version(6, 12))
    assert refusal is not None
    assert (refusal.reason, refusal.row, refusal.source) == (wanted, "line 3", Source.LIST)
    assert refusal.file.endswith("deny")
    assert lists.refusal("redirect/sockmap-tcp4", Version(6, 12)) is None


def test_an_allow_list_needs_no_reasons(tmp_path: Path) -> None:
    """What is on the list is asked, and nothing else."""
    lists = read(tmp_path, allow="insert\n")

    assert [case for case in CASES if lists.selects(case)] == ["insert/tcp4"]
    assert lists.refusal("insert/tcp4", Version(5, 10)) is None


def test_without_lists_everything_is_asked(tmp_path: Path) -> None:
    """No allow list allows everything; an empty one would allow nothing."""
    assert all(read(tmp_path).selects(case) for case in CASES)
    assert not any(read(tmp_path, allow="# nothing\n").selects(case) for case in CASES)


def test_an_entry_applies_to_its_kernels_only(tmp_path: Path) -> None:
    """Outside the range a denied case is asked, and an allowed one is not."""
    lists = read(tmp_path, deny=f"insert # {NOTES.replace('all', '6.1..6.6')}", allow="* # all; kernel=5.10..6.12")

    assert lists.refusal("insert/tcp4", Version(6, 6, 99))
    assert lists.refusal("insert/tcp4", Version(6, 12, 107)) is None
    assert "allow list" in str(lists.refusal("insert/tcp4", Version(6, 13)))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("6.1..6.6", ["6.1", "6.1.170", "6.6.99"], ["6.0.19", "6.7"]),
        ("6.1.20..6.1.40", ["6.1.20", "6.1.40"], ["6.1.19", "6.1.41", "6.6"]),
        ("6.1..", ["6.1", "7.3.4"], ["5.15"]),
        ("..6.1", ["5.10", "6.1.3"], ["6.2"]),
        ("6.12", ["6.12", "6.12.107"], ["6.11", "6.13"]),
        ("all", ["5.10", "7.3"], []),
    ],
)
def test_a_range_of_kernels(text: str, inside: list[str], outside: list[str]) -> None:
    """Both ends belong to it, and the end of a branch is the end of all its stable releases."""
    span = KernelRange.parse(text)

    assert all(Version.parse(version) in span for version in inside)
    assert not any(Version.parse(version) in span for version in outside)


def test_a_known_splat_is_known_by_its_title(tmp_path: Path) -> None:
    """The expression is searched for in the title, on the entry's kernels."""
    lists = read(tmp_path, splats=f"WARNING: at .* sk_stream_kill_queues  # {NOTES.replace('all', '5.10')}\n")

    assert lists.known("WARNING: at net/core/stream.c sk_stream_kill_queues", Version(5, 10, 200))
    assert lists.known("WARNING: at net/core/stream.c sk_stream_kill_queues", Version(6, 1)) is None
    assert lists.known("WARNING: at net/core/sock_map.c sock_map_close", Version(5, 10)) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("insert", "line 1: lacks reason, link, kernel, until"),
        ("insert # why; link=x; until=2027-03-01", "lacks kernel"),
        ("insert # why; link=x; kernel=6.6..6.1; until=2027-03-01", "is not a range of kernels"),
        ("insert # why; link=x; kernel=six; until=2027-03-01", "'six' is not a kernel version"),
        ("insert # why; link=x; kernel=all; until=tomorrow", "Invalid isoformat"),
        ("insert # why; link=x; kernel=all; until=2027-02-28", "expired on 2027-02-28"),
        ("insert # why; links=x; kernel=all; until=2027-03-01", "unknown annotation 'links'"),
        (f"inser # {NOTES}", "'inser' names no case"),
        (f"insert/tcp # {NOTES}", "'insert/tcp' names no case"),
        (f"insert/tcp4/more # {NOTES}", "'insert/tcp4/more' names no case"),
    ],
)
def test_a_line_that_means_nothing_is_refused(tmp_path: Path, line: str, message: str) -> None:
    """Malformed, expired or naming nothing: the error names file and line."""
    with pytest.raises(UsageError) as caught:
        read(tmp_path, deny=line)

    assert f"{tmp_path}/deny, line 1: " in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.hint


def test_an_expired_entry_of_an_allow_list_is_refused_too(tmp_path: Path) -> None:
    """Annotations of an allow list are checked although they are optional."""
    with pytest.raises(UsageError, match="expired"):
        read(tmp_path, allow="insert # for a while; until=2020-01-01")


def test_a_splat_list_holds_expressions(tmp_path: Path) -> None:
    """An invalid expression is refused with its line."""
    with pytest.raises(UsageError, match="line 1: not a regular expression"):
        read(tmp_path, splats=f"WARN[ # {NOTES}")


def test_a_list_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """A mistyped path is an error, not an empty list."""
    with pytest.raises(UsageError, match="cannot be read"):
        read_lists([], [str(tmp_path / "none")], [], universe=CASES)
