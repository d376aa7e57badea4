# SPDX-License-Identifier: GPL-2.0-only
"""Reports of a kernel are found, separated and named; ordinary log lines are not reports.

Each file in klog/ has the expected reports, then the log: `report: family | title | functions`, one line each, none
for a healthy kernel. Most are of real kernels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.judge.klog import Report, Scanner, find_reports, find_splat
from conformance.judge.klog.report import HEADERS, normalise
from conformance.judge.klog.scan import LONGEST

FOLDER = Path(__file__).parent / "klog"


@dataclass(frozen=True, slots=True)
class KlogSample:
    """A log and what is in it."""

    name: str
    expected: tuple[tuple[str, str, tuple[str, ...]], ...]
    text: str

    @classmethod
    def read(cls, path: Path) -> KlogSample:
        """Read a file."""
        head, _, text = path.read_text().partition("\n\n")
        expected = []
        for line in head.splitlines()[1:]:
            family, title, functions = (each.strip() for each in line.removeprefix("report:").split("|"))
            expected.append((family, title, tuple(functions.split())))
        return cls(path.stem, tuple(expected), text)


FIXTURES = [KlogSample.read(path) for path in sorted(FOLDER.glob("*.log"))]
REAL = [fixture for fixture in FIXTURES if fixture.name.startswith("real-")]


def found(reports: tuple[Report, ...]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return the expected reports of a sample."""
    return tuple((report.family, report.title, report.fingerprint) for report in reports)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.name)
def test_a_log_has_the_reports_it_has(fixture: KlogSample) -> None:
    """Family, title and fingerprint of every report in a log, and nothing else, are found."""
    assert found(find_reports(fixture.text.splitlines())) == fixture.expected


def test_most_logs_are_of_real_kernels_and_each_says_of_which() -> None:
    """At least sixty logs of sick kernels; logs are written by hand only if no kernel here can produce them."""
    sources = {path.stem: path.read_text().partition("\n")[0] for path in FOLDER.glob("*.log")}

    assert all(source.startswith("source: ") for source in sources.values())
    assert all(re.match(r"source: Debian \d+\.\d+", sources[fixture.name]) for fixture in REAL)
    assert len(REAL) >= 60
    assert all(fixture.expected for fixture in REAL)


@pytest.mark.parametrize("line", (FOLDER / "harmless-lines.txt").read_text().splitlines())
def test_ordinary_lines_are_no_reports(line: str) -> None:
    """A line that only mentions a warning, or is about something else, is not a report."""
    for prefix in ("", "[   12.345678] ", "<4>[   12.345678] ", "[   12.345678][  T123] ", "4,321,12345678,-;"):
        assert find_splat([prefix + line]) is None


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_where_a_log_is_cut_into_pieces_does_not_matter(size: int) -> None:
    """A header split over two reads is still one header."""
    for fixture in FIXTURES[:: 1 if size > 1 else 10]:
        scanner = Scanner()
        pieces = (fixture.text[start : start + size] for start in range(0, len(fixture.text), size))
        reports = tuple(report for piece in pieces for report in scanner.feed(piece)) + scanner.finish()
        assert reports == find_reports(fixture.text.splitlines()), fixture.name


def test_a_report_is_handed_over_as_soon_as_it_has_ended() -> None:
    """A report is returned before the console ends."""
    scanner = Scanner()

    assert scanner.feed("[    1.000000] WARNING: CPU: 0 PID: 1 at a.c:7 b+0x1/0x2\n[    1.000001] ---[ end tra") == ()
    assert [report.title for report in scanner.feed("ce 0 ]---\n")] == ["WARNING: at a.c b"]
    assert scanner.finish() == ()


def test_a_report_keeps_its_whole_text() -> None:
    """A report has every line from `cut here` to `end trace`, and no line of another report."""
    text = next(fixture for fixture in FIXTURES if fixture.name == "made-journal").text
    (report,) = find_reports(["before", *text.splitlines(), "after"])

    assert report.text == text.rstrip("\n")


def test_the_cause_comes_before_the_panic() -> None:
    """The first report on a panicked kernel's console is the cause."""
    for fixture in REAL:
        if "serial console" in (FOLDER / f"{fixture.name}.log").read_text().partition("\n")[0]:
            family = find_reports(fixture.text.splitlines())[0].family
            assert (family == "panic") == any(name in fixture.name for name in ("-panic", "sysrq-c")), fixture.name


def test_one_warning_has_one_title_on_every_kernel() -> None:
    """5.10, 6.12 and 7.3 print the same warning differently; its title and fingerprint are the same."""
    titles = {fixture.expected[0] for fixture in REAL if fixture.name.endswith("stream-kill")}

    assert {title for _, title, _ in titles} == {"WARNING: at net/core/stream.c sk_stream_kill_queues"}
    assert len(titles) == 1


@pytest.mark.parametrize("family", sorted({header.family for header in HEADERS}))
def test_every_family_has_a_log(family: str) -> None:
    """Every family of reports has a sample."""
    assert any(family in {each for each, _, _ in fixture.expected} for fixture in FIXTURES)


def test_an_endless_report_does_not_fill_the_memory() -> None:
    """Only a limited part of an endless report is kept."""
    (report,) = find_reports(["BUG: it has begun", *["and goes on"] * 100_000])

    assert len(report.text.splitlines()) == LONGEST


@given(st.text())
def test_any_noise_is_survived(noise: str) -> None:
    """The scanner never raises, whatever a console prints."""
    find_reports([noise, f"BUG: {noise}", f"[    1.000000] {noise}"])


@given(st.integers(0, 2**64 - 1), st.integers(0, 99999), st.integers(0, 4096))
def test_a_title_does_not_depend_on_addresses_and_numbers(address: int, number: int, offset: int) -> None:
    """Two runs with the same warning have the same title."""
    title = normalise(
        f"BUG: KFENCE: use of {address:#x} in sk_psock_drop+{offset:#x}/0x1000 by CPU#{number} after {number} jiffies"
    )

    assert title == "BUG: KFENCE: use of in sk_psock_drop by after jiffies"
    assert normalise(title) == title
