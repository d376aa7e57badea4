# SPDX-License-Identifier: GPL-2.0-only
"""Parts of the web page: links, known defects, incomplete cells."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from conformance.expect.words import step_words
from conformance.groups import cases as catalogue
from conformance.model import Verdict
from conformance.report.html import render
from conformance.report.html.names import cited
from tests.conformance import report_runs
from tests.conformance.test_report_html import Page


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ('since 4.14 (174a79ff9515 "bpf: sockmap")', ["https://git.kernel.org/linus/174a79ff9515"]),
        (
            "since 5.13, 1234567890ab, e5c6de5fa025)",
            [f"https://git.kernel.org/linus/{each}" for each in ("1234567890ab", "e5c6de5fa025")],
        ),
        ("see https://lore.kernel.org/bpf/20260101.x@y/.", ["https://lore.kernel.org/bpf/20260101.x@y"]),
        ("https://kernel.org.evil.example/a https://evilkernel.org/b javascript:x 174a79ff951 1234567890ab.", []),
        ('<a href="https://evil.example/">174a79ff9515</a>', []),
    ],
)
def test_commits_are_linked(text: str, linked: list[str]) -> None:
    """A cited commit and an address at kernel.org become links; nothing else does."""
    page = Page(f"<p>{cited(text)}</p>")
    assert [each["href"] for each in page.every("a")] == linked
    assert page.text == text


def test_a_known_defect_is_shown_with_the_promise() -> None:
    """For an xfail the page shows the promise and what the kernel did instead."""
    run = report_runs.healthy()
    case, *_ = run.cases["debian-6.12"]
    other = next(each for each in catalogue() if each.group == "teardown")
    xfail = report_runs.judged(report_runs.KERNEL_6_12, other, "queued nowhere", expected="queued socket")
    xfail = replace(xfail, verdict=Verdict.XFAIL, reason="it is lost", deviation="lost")
    run.cases["debian-6.12"] = [case, replace(xfail, observation={"steps": {"queued": "nowhere", "slot": "ok"}})]
    page = Page(render(run)).text
    assert "observed queued nowhere" in page
    assert "expected queued socket" in page
    assert "queued" + step_words("teardown", "queued") in page
    assert "slot" + step_words("teardown", "slot") in page
    assert "nowherethe data arrived at no socket" in page


def test_a_cell_shows_that_some_of_its_cases_never_ran() -> None:
    """A cell says how many of its eight cases were not run; a complete cell does not mention it."""
    run = report_runs.healthy()
    dropped = [case for case in run.cases["debian-6.12"] if case.id.endswith("sockmap-ingress-to-local-udp4-tcp4")]
    assert len(dropped) == 1
    run.cases["debian-6.12"].remove(dropped[0])
    page = Page(render(run))
    (part,) = [each for each in page.every("a") if "part" in each.get("class", "").split()]
    assert part["href"] == "#cell-ingress-to-local-udp-tcp"
    assert part["aria-label"] == "delivered (1 of 8 cases not run)"


def test_the_unexpected_count_is_on_a_narrow_screen() -> None:
    """The column of unexpected cases is the next after the kernel's name: a narrow screen leaves out the release."""
    text = render(report_runs.planted())
    table = text[text.index('<table class="counts">') :]
    columns = re.findall(r'<th scope="col">([^<]*)</th>', table[: table.index("</thead>")])
    assert columns[:4] == ["kernel", "release", "unexpected", "cases"]
    first = re.sub(r"<[^>]*>", "|", table[table.index("debian:6.12</a>") :])
    assert re.split(r"\|+", first)[:4] == ["debian:6.12", "6.12.117+deb13-amd64", "6", "24"]
