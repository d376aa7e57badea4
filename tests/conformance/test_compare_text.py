# SPDX-License-Identifier: GPL-2.0-only
"""The text of a comparison, from two folders of results to the mail."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.commands.compare import differences
from conformance.compare.identity import unlike
from conformance.compare.model import Change, Comparison
from conformance.compare.text import bisect_command, comparison_lines, counts_lines, paragraph
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, FinishEvent, KernelEvent, RunEvent
from conformance.report.events import NAME, EventLog, Run
from kernels.kernel import Kernel
from kernels.version import Version
from tests.conformance.conform import conform
from tests.conformance.observations import flowed
from tests.conformance.report_runs import kernel

BASE = kernel("6.12", "6.12.107+deb12-amd64")
HEAD = kernel("6.18", "6.18.9+deb14-amd64", digest="77" * 32, config_sha256="c1" * 32)
LINE = {
    "sequence": 7,
    "level": 4,
    "microseconds": 7,
    "text": "WARNING: CPU: 0 PID: 1 at net/core/skmsg.c:7 sk_psock_backlog+0x1/0x2",
}


def event(name: str, verdict: Verdict = Verdict.PASS, receiver: str = "out", **more: Any) -> CaseEvent:
    """Make the event of a redirect that was delivered on a role."""
    params = {"map": "sockmap", "mode": "ingress-to-local", "in": "udp4", "out": name, "layout": "plain"}
    made = CaseEvent(
        kernel="",
        group="redirect",
        name=f"sockmap-ingress-to-local-udp4-{name}",
        id=f"redirect/sockmap-ingress-to-local-udp4-{name}",
        params=params,
        verdict=verdict,
        reason="SK_SKB redirects from any kind (since 5.13)",
        observation=flowed(receiver),
        repeat=f"./conform run --kernel debian:6.18 --case redirect/sockmap-ingress-to-local-udp4-{name}",
    )
    return replace(made, **more)


def splat(name: str) -> CaseEvent:
    """Make the event of a case that made the kernel warn."""
    return event(name, Verdict.SPLAT, log=(LINE,), reason="every case leaves the kernel healthy")


WAS = [event("udp4"), event("udp6"), event("unix_dgram"), splat("unix_stream"), event("tcp4")]
NOW = [event("udp4"), splat("udp6"), splat("unix_dgram"), event("unix_stream")]


def by_id(events: Iterable[CaseEvent]) -> dict[str, CaseEvent]:
    """Name events by their cases."""
    return {each.id: each for each in events}


def compared(**more: Any) -> Comparison:
    """Make a comparison with two regressions, a fix and a case that vanished."""
    return replace(Comparison(BASE, HEAD, differences(by_id(WAS), by_id(NOW), {})), **more)


def test_the_counts_come_first() -> None:
    """Regressions, fixes, still failing, unstable; then the other counts."""
    first, then = counts_lines(compared())

    assert first == "2 regressions   1 fix   0 still failing   0 unstable"
    assert then == "1 vanished   1 same"


def test_a_regression_has_all_one_needs() -> None:
    """Both results, the title of the splat, the commands to repeat and to bisect; equal regressions are grouped."""
    lines = comparison_lines(compared())
    text = "\n".join(lines)

    assert max(map(len, lines)) <= 80
    assert "1. redirect/sockmap-ingress-to-local-udp4-udp6" in text
    assert "base      outcome delivered" in text
    assert "head      splat WARNING: at net/core/skmsg.c sk_psock_backlog" in text
    assert "git bisect start v6.18.9 v6.12.107" in text
    assert "git bisect run ./conform run --kernel tree:. \\\n" in text
    assert "the same for 1 more:\n     redirect/sockmap-ingress-to-local-udp4-unix_dgram" in text


def test_the_paragraph_fits_a_reply() -> None:
    """Plain ASCII, below 72 columns, with both kernels, the counts and each kind of regression."""
    lines = paragraph(compared(tries=5))
    text = " ".join(lines)

    assert max(map(len, lines)) < 72
    assert text.isascii()
    assert "2 regressions, 1 fix, none still failing, none unstable" in text
    assert "6.12.107+deb12-amd64 (debian:6.12)" in text
    assert "Regression: redirect/sockmap-ingress-to-local-udp4-udp6 and 1 more" in text
    assert "repeated 5 times on both kernels" in text


def test_a_patch_without_commits_cannot_be_bisected() -> None:
    """Where one version is patched no commit lies between."""
    regression = compared().of(Change.REGRESSION)[0]

    assert bisect_command(BASE, replace(HEAD, version=BASE.version), regression) == ""


def test_commits_are_what_a_bisection_starts_from() -> None:
    """For kernels built from git the commits are used, not the versions."""
    base, head = (replace(each, package={"commit": letter * 40}) for each, letter in ((BASE, "a"), (HEAD, "b")))

    assert f"git bisect start {'b' * 12} {'a' * 12} &&" in bisect_command(base, head, compared().of(Change.FIX)[0])


def _kernel(event: KernelEvent, config: dict[str, str]) -> Kernel:
    return Kernel(event.spec, event.slug, event.release, Version(6, 12), "", None, None, None, config, {}, event.digest)


def test_what_differs_between_the_kernels() -> None:
    """Differing configuration symbols are named."""
    kernels = (_kernel(BASE, {"INET": "y", "TLS": "m"}), _kernel(HEAD, {"INET": "y", "VSOCKETS": "m"}))

    said = unlike(BASE, HEAD, kernels)

    assert "release 6.12.107+deb12-amd64 -> 6.18.9+deb14-amd64" in said
    assert "2 configuration symbols; TLS m -> n, VSOCKETS n -> m" in said


def test_one_kernel_is_like_itself() -> None:
    """Kernels with equal digests have no differences."""
    assert unlike(BASE, BASE, (None, None)) == ("nothing: the two kernels are identical, byte for byte",)


def write(folder: Path, kernel: KernelEvent, cases: Iterable[CaseEvent], suite: str = "") -> Path:
    """Write the results of a run over a kernel that is not available."""
    start = RunEvent(started="2026-11-22T20:29:00Z", command=("./conform", "run"), selected={kernel.slug: 5})
    run = Run(replace(start, suite_commit=suite))
    with EventLog(folder / NAME) as log:
        log.write(run.start)
        log.write(kernel)
        for case in cases:
            log.write(replace(case, kernel=kernel.slug))
        log.write(FinishEvent(exit_code=0, seconds=1.0))
    return folder


class TestFolders:
    """Through the real command; the kernels of these runs are gone."""

    GONE = replace(BASE, spec="./gone/base")
    GONE_HEAD = replace(HEAD, spec="./gone/head")

    def test_two_folders(self, tmp_path: Path) -> None:
        """A regression exits 1, and cases that could not be repeated are named."""
        base, head = write(tmp_path / "base", self.GONE, WAS), write(tmp_path / "head", self.GONE_HEAD, NOW)

        done = conform("compare", str(base), str(head), "--results", "out", cwd=tmp_path)

        assert done.returncode == 1, done.stderr
        assert "2 regressions   1 fix" in done.stdout
        assert "No case was repeated" in done.stdout
        stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
        assert stored[0]["counts"]["regression"] == 2
        assert [each["change"] for each in stored[0]["cases"]].count("fix") == 1

    def test_one_folder_with_itself(self, tmp_path: Path) -> None:
        """A case that still fails is not a regression."""
        folder = write(tmp_path / "base", self.GONE, NOW)

        done = conform("compare", str(folder), str(folder / NAME), cwd=tmp_path)

        assert done.returncode == 0, done.stderr
        assert "0 regressions   0 fixes   2 still failing   0 unstable" in done.stdout

    @pytest.mark.parametrize("case", [(), ("--case", "redirect/*-udp6")])
    def test_nothing_in_common(self, case: tuple[str, ...], tmp_path: Path) -> None:
        """Two runs without a common case are wrong usage."""
        base = write(tmp_path / "base", self.GONE, WAS[:1], suite="aaaaaaaaaaaa")
        head = write(tmp_path / "head", self.GONE_HEAD, NOW[1:], suite="bbbbbbbbbbbb")

        done = conform("compare", str(base), str(head), *case, cwd=tmp_path)

        assert done.returncode == 128
        said = done.stderr.splitlines()[-2]
        assert said.startswith("conform: the two sides have no case in common: base ./gone/base has ")
        assert "head ./gone/head has " in said
        assert "e.g. redirect/sockmap-ingress-to-local-udp4-udp6" in said
        assert "(suite aaaaaaaaaaaa; suite bbbbbbbbbbbb)" in said
        assert "regression" not in done.stdout

    def test_two_suites(self, tmp_path: Path) -> None:
        """Text, mail and JSON say that two versions of the suite judged."""
        base = write(tmp_path / "base", self.GONE, WAS, suite="aaaaaaaaaaaa")
        head = write(tmp_path / "head", self.GONE_HEAD, NOW, suite="bbbbbbbbbbbb")

        done = conform("compare", str(base), str(head), "--results", "out", cwd=tmp_path)

        said = " ".join(done.stdout.split())
        assert "Note: suite aaaaaaaaaaaa judged base, suite bbbbbbbbbbbb judged head: a difference may come" in said
        assert "SOCKMAP conformance (suite aaaaaaaaaaaa for base, suite bbbbbbbbbbbb for head)," in said
        stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
        assert stored[0]["suites"] == {"base": "suite aaaaaaaaaaaa", "head": "suite bbbbbbbbbbbb"}
        done = conform("compare", str(base), str(base), cwd=tmp_path)
        assert "a difference may come" not in done.stdout
        assert "SOCKMAP conformance (suite aaaaaaaaaaaa)," in done.stdout

    def test_a_case_that_the_harness_lost(self, tmp_path: Path) -> None:
        """A case that one side could not judge gives 125, and is not called a regression."""
        lost = [replace(event("udp4"), verdict=Verdict.INFRA, observation=None)]
        base, head = write(tmp_path / "base", self.GONE, WAS[:1]), write(tmp_path / "head", self.GONE_HEAD, lost)

        assert conform("compare", str(base), str(head), cwd=tmp_path).returncode == 125

    def test_a_case_that_the_host_spoilt(self, tmp_path: Path) -> None:
        """A case that the host spoilt gives 128, so that a bisection does not skip the commit, whatever was seen."""
        lost = [replace(event("udp4"), verdict=Verdict.INFRA, host=True)]
        base, head = write(tmp_path / "base", self.GONE, WAS[:1]), write(tmp_path / "head", self.GONE_HEAD, lost)

        done = conform("compare", str(base), str(head), cwd=tmp_path)

        assert done.returncode == 128
        assert "1 not judged" in done.stdout

    def test_a_kernel_that_the_host_could_not_get(self, tmp_path: Path) -> None:
        """A folder whose kernel could not be fetched gives 128."""
        base = write(tmp_path / "base", self.GONE, WAS)
        head = write(tmp_path / "head", replace(self.GONE_HEAD, error="no space left", hint="look", host=True), [])

        assert conform("compare", str(base), str(head), cwd=tmp_path).returncode == 128

    def test_a_kernel_that_was_not_judged(self, tmp_path: Path) -> None:
        """A folder whose kernel did not boot gives 125, with the run's error."""
        base = write(tmp_path / "base", self.GONE, WAS)
        head = write(tmp_path / "head", replace(self.GONE_HEAD, error="it did not boot", hint="look"), [])

        done = conform("compare", str(base), str(head), cwd=tmp_path)

        assert done.returncode == 125
        assert done.stderr.splitlines()[-2:] == ["conform: it did not boot", "  hint: look"]

    @pytest.mark.parametrize(
        ("option", "value", "culprit"),
        [("--again", "-1", "-1"), ("--denylist", "nowhere", "nowhere"), ("--patch", "x", "--patch")],
    )
    def test_wrong_usage(self, option: str, value: str, culprit: str, tmp_path: Path) -> None:
        """Wrong usage is reported before anything is judged."""
        done = conform("compare", "debian:6.1", "debian:6.12", option, value, cwd=tmp_path)

        assert done.returncode == 128
        assert culprit in done.stderr.splitlines()[0]

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        """A side may be a results folder, so the error does not speak of kernels alone."""
        done = conform("compare", "results/a", "b", cwd=tmp_path)

        assert done.returncode == 128
        assert done.stderr.splitlines()[0] == "conform: there is neither a kernel nor a results folder 'results/a'"
        assert "a kernel is debian:VERSION" in done.stderr
