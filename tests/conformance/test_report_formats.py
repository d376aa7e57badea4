# SPDX-License-Identifier: GPL-2.0-only
"""Reports for programs, each checked against the rules of its format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import kcidb_io
import pytest

from conformance.model import Ground, Source, Verdict
from conformance.report import features, junit, kcidb, ktap
from conformance.report.events import Run
from tests.conformance import report_runs

CASES = "debian-6.12"


def hostile() -> Run:
    """Add text to a run with failures that breaks careless XML, KTAP and JSON."""
    run = report_runs.sick()
    nasty = "\x00\x1b]0;gone\x07 ]]> <&> # SKIP\nok 1 - forged\nKTAP version 1\n# Subtest: forged\n1..9\n\ud800\ufffe"
    run.cases[CASES] = [
        replace(case, observed=nasty, reason=nasty, differences=(nasty,), console=nasty, deviation="one two")
        if case.verdict is not Verdict.PASS
        else case
        for case in run.cases[CASES]
    ]
    run.kernels[CASES] = replace(run.kernels[CASES], banner=nasty, notes=(nasty,))
    return run


RUNS: dict[str, Callable[[], Run]] = {
    "sick": report_runs.sick,
    "planted": report_runs.planted,
    "hostile": hostile,
    "empty": report_runs.finished,
}


# The part of junit-10.xsd that reports use: elements and attributes.
_CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
}
_NEEDED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}, "property": {"name", "value"}}
_ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"skipped", "time", "timestamp", "hostname", "id", "package"},
    "testcase": {"time", "classname"},
    "skipped": {"type", "message"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
}


class TestJunit:
    """The rules of junit-10.xsd, the schema of Jenkins' xunit plugin."""

    @pytest.mark.parametrize("name", RUNS)
    def test_it_keeps_to_the_schema(self, name: str) -> None:
        """Elements and attributes are those of the schema, in their places; times are numbers."""
        root = ET.fromstring(junit.render(RUNS[name]()))
        assert root.tag == "testsuites"
        for element in root.iter():
            assert {child.tag for child in element} <= _CHILDREN.get(element.tag, set())
            needed = _NEEDED.get(element.tag, set())
            assert needed <= set(element.keys()) <= needed | _ALLOWED.get(element.tag, set())
            assert re.fullmatch(r"\d*(\.\d*)?", element.get("time", "0"))

    @pytest.mark.parametrize("name", RUNS)
    def test_the_numbers_add_up(self, name: str) -> None:
        """Each suite counts its cases, the root counts its suites, and every unexpected case is counted."""
        run = RUNS[name]()
        root = ET.fromstring(junit.render(run))
        for suite in root:
            assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
            for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
                assert int(suite.get(attribute, "")) == len(suite.findall(f"testcase/{tag}"))
        assert int(root.get("tests", "")) == sum(int(suite.get("tests", "")) for suite in root)
        dead = sum(bool(kernel.error) for kernel in run.kernels.values())
        assert len(root.findall(".//failure")) + len(root.findall(".//error")) == len(run.unexpected()) + dead

    def test_a_case_has_its_properties(self) -> None:
        """Parameters and repeat command of a case are in its output, in the form that test managers read."""
        root = ET.fromstring(junit.render(report_runs.healthy()))
        text = root.findtext(".//testcase[@name='sockmap-send-to-egress-tcp4-udp6']/system-out") or ""
        properties = dict(re.findall(r"^\[\[PROPERTY\|(\w+)=(.*)\]\]$", text, re.MULTILINE))
        assert properties.items() >= {"mode": "send-to-egress", "in": "tcp4", "out": "udp6", "verdict": "pass"}.items()
        assert properties["repeat"].endswith("--case redirect/sockmap-send-to-egress-tcp4-udp6")

    def test_what_never_ran_is_no_success(self) -> None:
        """Selected cases that were never judged are a separate error."""
        run = report_runs.healthy()
        del run.cases[CASES][300:]
        error = ET.fromstring(junit.render(run)).find(".//testcase[@name='judges-all-cases']/error")
        assert error is not None
        assert error.get("message") == "436 of the selected cases never ran"


class TestKcidb:
    """Reports are checked by KernelCI's own schema."""

    @pytest.mark.parametrize("name", RUNS)
    def test_it_keeps_to_the_schema(self, name: str) -> None:
        """It is valid as exactly version 5.3, and every id it refers to is there."""
        report = json.loads(kcidb.render(RUNS[name]()))
        kcidb_io.schema.V5_3.validate_exactly(report)
        ids: dict[str, set[str]] = {}
        for kind in ("checkouts", "builds", "tests", "issues", "incidents"):
            listed = [each["id"] for each in report[kind]]
            ids[kind] = set(listed)
            assert len(ids[kind]) == len(listed)
        assert {each["checkout_id"] for each in report["builds"]} <= ids["checkouts"]
        assert {each["build_id"] for each in report["tests"]} <= ids["builds"]
        assert {each["test_id"] for each in report["incidents"]} <= ids["tests"]
        assert {each["issue_id"] for each in report["incidents"]} == ids["issues"]

    def test_statuses(self) -> None:
        """About the kernel: FAIL; about the harness: ERROR; a known defect is FAIL, with an incident."""
        run = report_runs.healthy()
        cases = run.cases[CASES]
        late = Ground(file="expect/x.toml", row="late", source=Source.DEFECT, reason="a; b")
        known = {"deviation": "late lost-wakeup", "grounds": (late, replace(late, row="lost-wakeup", reason="c"))}
        for number, verdict in enumerate(Verdict):
            shown = known if verdict in (Verdict.XFAIL, Verdict.XPASS) else {}
            cases[number] = replace(cases[number], verdict=verdict, **shown)  # type: ignore[arg-type]
        report = json.loads(kcidb.render(run))
        statuses = {each["misc"]["verdict"]: each["status"] for each in report["tests"]}
        assert statuses == {
            **dict.fromkeys(("fail", "xfail", "splat", "panic", "hang", "lost"), "FAIL"),
            **dict.fromkeys(("pass", "xpass"), "PASS"),
            "skip": "SKIP",
            "infra": "ERROR",
        }
        assert [each["comment"] for each in report["issues"]] == [
            "known defect late: a; b",
            "known defect lost-wakeup: c",
        ]
        assert [each["present"] for each in report["incidents"]] == [True, True, False, False]

    def test_a_kernel_that_does_not_boot_is_there(self) -> None:
        """Such a kernel has a build, and a test `boot` with an error."""
        report = json.loads(kcidb.render(report_runs.sick()))
        (boot,) = [each for each in report["tests"] if each["path"] == "boot"]
        assert boot["status"] == "ERROR"
        assert boot["comment"].startswith("debian:5.10 did not boot")


def results(lines: Iterator[str], depth: int = 0) -> list[tuple[str, bool, str, list[Any]]]:
    """Read one level of KTAP the way Documentation/dev-tools/ktap.rst says: name, passed, directive, nested results."""
    found: list[tuple[str, bool, str, list[Any]]] = []
    nested: list[Any] = []
    planned = None
    indent = "  " * depth
    for line in lines:
        assert line.startswith(indent)
        rest = line[len(indent) :]
        if rest == "  KTAP version 1":
            nested = results(lines, depth + 1)
        elif plan := re.fullmatch(r"1\.\.(\d+)", rest):
            planned = int(plan[1])
        elif result := re.fullmatch(r"(ok|not ok) (\d+) ([^#]*?)(?: # (.*))?", rest):
            found.append((result[3], result[1] == "ok", result[4] or "", nested))
            assert int(result[2]) == len(found)
            nested = []
        else:
            assert rest.startswith("#"), rest
        if planned == len(found):
            return found
    raise AssertionError(f"{planned} planned, {len(found)} found")


class TestKtap:
    """Reports follow the kernel's specification of KTAP; test_kunit_parser.py runs the kernel's own parser."""

    @pytest.mark.parametrize("name", RUNS)
    def test_kernels_groups_and_cases_are_nested(self, name: str) -> None:
        """Every case is listed under its kernel and group, with the log's verdict, whatever consoles contain."""
        run = RUNS[name]()
        lines = iter(ktap.render(run).splitlines())
        assert next(lines) == "KTAP version 1"
        kernels = results(lines)
        assert not list(lines)
        seen = {
            (slug, group, case): passed
            for slug, _, _, groups in kernels
            for group, _, _, cases in groups
            for case, passed, _, _ in cases
        }
        judged = ((slug, case) for slug, cases in run.cases.items() for case in cases)
        assert seen == {(slug, case.group, case.name): case.verdict.expected for slug, case in judged}
        for slug, passed, _, groups in kernels:
            assert passed == (not run.unexpected(slug) and not run.kernel(slug).error)
            assert all(ok == all(each[1] for each in cases) for _, ok, _, cases in groups)

    def test_directives(self) -> None:
        """Skips and known defects carry their reason, and a hang is a timeout."""
        lines = [line.lstrip() for line in ktap.render(report_runs.sick()).splitlines()]
        for wanted in (
            r"ok \d+ sockmap-send-to-local-unix_dgram-tcp4 # SKIP CONFIG_UNIX is not set",
            r"ok \d+ sockmap-send-to-local-tcp6-udp6 # XFAIL known since 6.9",
            r"not ok \d+ sockhash-ingress-to-local-vsock_seqpacket-vsock_seqpacket # TIMEOUT",
            r"not ok 2 debian-5.10 # ERROR debian:5.10 did not boot: no message within 60 s",
        ):
            assert sum(re.fullmatch(wanted, line) is not None for line in lines) == 1, wanted


class TestFeatures:
    """The first kernel with each feature."""

    def _table(self, *runs: Run) -> dict[str, tuple[str | None, str | None]]:
        from conformance.report.merge import merged

        table = json.loads(features.render(merged(runs)))
        return {each["feature"]: (each["since"], each["not_in"]) for each in table["features"]}

    def test_what_lies_between_is_not_claimed(self) -> None:
        """A feature is shown with the oldest kernel that has it, and the newest that lacks it."""
        table = self._table(report_runs.healthy(), report_runs.old())
        assert table["redirect/send-to-local/tcp4/tcp4"] == ("5.10.223", None)
        assert table["redirect/ingress-to-local/tcp4/unix_dgram"] == ("6.12.107", "5.10.223")
        assert table["redirect/ingress-to-local/tcp4/vsock_stream"] == (None, "6.12.107")
        assert table["redirect/ingress-to-egress/udp4/peer"] == ("6.12.107", "5.10.223")

    @pytest.mark.parametrize("verdict", [Verdict.SKIP, Verdict.INFRA, Verdict.SPLAT, Verdict.PANIC, Verdict.LOST])
    def test_a_failed_case_says_nothing_about_features(self, verdict: Verdict) -> None:
        """A case without an answer says nothing about a feature; the case of the other map still does."""
        run = report_runs.healthy()
        feature, name = "redirect/send-to-local/tcp4/tcp4", "send-to-local-tcp4-tcp4"
        for map_, wanted in (("sockmap", ("6.12.107", None)), ("sockhash", None)):
            run.cases[CASES] = [
                replace(case, verdict=verdict) if case.name == f"{map_}-{name}" else case for case in run.cases[CASES]
            ]
            assert self._table(run).get(feature) == wanted

    @pytest.mark.parametrize("map_", ["sockmap", "sockhash"])
    def test_one_map_is_not_enough(self, map_: str) -> None:
        """A kernel has a feature only if every case of it shows so, even one that was expected to fail."""
        run = report_runs.healthy()
        run.cases[CASES] = [
            replace(case, verdict=Verdict.XFAIL, observed="dropped")
            if case.name == f"{map_}-send-to-local-tcp4-tcp4"
            else case
            for case in run.cases[CASES]
        ]
        assert self._table(run)["redirect/send-to-local/tcp4/tcp4"] == (None, "6.12.107")

    def test_every_row_matches_some_case(self) -> None:
        """A row about cases or parameters that do not exist would never show."""
        from conformance.groups import cases
        from conformance.report.event_types import CaseEvent

        every = [
            CaseEvent(
                kernel="", group=each.group, name="", id="", verdict=Verdict.PASS, params=each.params, observed="x"
            )
            for each in cases()
        ]
        for row in features._rows():
            assert any(row.matches(case) and row.name.format(**case.params) for case in every), row
