# SPDX-License-Identifier: GPL-2.0-only
"""An unexpected case reads like a bug report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.groups.redirect.differences import flow_differences
from conformance.groups.redirect.outcomes import OUTCOMES
from conformance.groups.redirect.seen import read
from conformance.model import Verdict
from conformance.report.bug_report import LINES, bug_report, folded
from conformance.report.style import Style
from conformance.report.text import case_lines
from tests.conformance import report_runs
from tests.conformance.observations import case as redirect
from tests.conformance.observations import flowed


@pytest.mark.parametrize("name", ["sick", "planted", "families_differ"])
def test_a_case_takes_ten_lines(name: str) -> None:
    """The ten lines have action, expectation, observation, ground and the command to repeat the case."""
    run = report_runs.RUNS[name]()
    for case in run.unexpected():
        lines = bug_report(case, run.kernel(case.kernel), f"1. {case.verdict}", Style())
        assert len(lines) <= LINES
        assert max(map(len, lines)) <= 80
        labels = {line[3:12].strip() for line in lines if line[3:4].strip()}
        assert {"scenario", "observed", "repeat"} <= labels
        assert ("expected" in labels, "ground" in labels) == (bool(case.expected), bool(case.grounds))
        assert case.id in " ".join(lines)


def test_a_long_case_keeps_what_matters() -> None:
    """However many differences there are, the first ones, the ground and the whole command are shown."""
    case = next(case for case in report_runs.planted().unexpected() if case.verdict is Verdict.FAIL)
    words = ("loses", "bends", "repeats", "delays", "eats")
    differences = tuple(
        f"wanted nothing, but the kernel {word} what was sent to it " + "and more " * 9 for word in words
    )
    long = replace(case, differences=differences, evidence="cases/debian-6.12/redirect/x")
    lines = bug_report(long, report_runs.KERNEL_6_12, "1. FAIL", Style())
    text = "\n".join(lines)
    assert len(lines) == LINES
    assert "wanted nothing, but the kernel loses what was sent" in text
    assert "…" in text
    assert "ground    groups/redirect/promises-redirect.toml: skb-local" in text
    assert "evidence  cases/debian-6.12/redirect/x" in text
    assert lines[-1].endswith(case.name)


def test_repeated_differences_are_folded() -> None:
    """Differences that vary only in numbers or phases are shown once, with the number of others."""
    said = [f"{phase}: wanted nothing on out, got bytes 0-{size}" for phase, size in (("byte", 0), ("burst", 99))]
    assert folded([*said, "wanted send to give 1, got EPIPE"]) == [
        "byte: wanted nothing on out, got bytes 0-0 (the same for burst)",
        "wanted send to give 1, got EPIPE",
    ]
    sends = [f"burst: wanted send {number} of 16 to give 300, got EACCES" for number in range(1, 17)]
    assert folded(sends) == ["burst: wanted send 1 of 16 to give 300, got EACCES (the same for 15 more)"]
    assert folded([]) == []


def test_sends_that_fail_alike_are_one_difference() -> None:
    """Sends of a burst with the same result are one sentence; a single failing send has its number."""
    observation = flowed("out")
    burst = max(observation["phases"], key=lambda phase: len(phase["send"]))
    count = len(burst["send"])
    burst["send"] = ["EACCES"] * count
    case = redirect("sockmap-ingress-to-local-udp4-unix_dgram")

    def difference_lines() -> list[str]:
        found = flow_differences(case.params, OUTCOMES["delivered"], read(observation, "plain"))
        return [each for each in found if "EACCES" in each]

    assert [each.partition(": ")[2] for each in difference_lines()] == [
        f"wanted sends to return the byte count, {count} of {count} returned EACCES"
    ]
    burst["send"] = ["EACCES", *burst["sent"][1:]]
    assert len(difference_lines()) == 1
    assert "wanted send 1 of" in difference_lines()[0]


def test_an_unexpected_case_shows_its_differences_during_the_run() -> None:
    """On the terminal an unexpected case has its differences at once, folded."""
    run = report_runs.planted()
    case = next(case for case in run.unexpected() if case.verdict is Verdict.FAIL)
    lines = case_lines(run, case)
    assert "meant for out: misdelivered (the same for kilobyte and burst)" in " ".join(" ".join(lines).split())
    assert len(lines) <= LINES
