# SPDX-License-Identifier: GPL-2.0-only
"""A verdict names the rows that decided it, as data: in the judgement, in the event log, in every report."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import conformance
from conformance.groups import cases
from conformance.groups.redirect.expectation import expected_outcome
from conformance.judge import steps
from conformance.judge.conclude import conclude
from conformance.judge.defects import deviations
from conformance.judge.judge import judge
from conformance.judge.needs import unmet
from conformance.model import Case, Ground, KernelFacts, Source, Verdict
from conformance.report.events import decode, encode
from conformance.report.formats import FORMATS
from conformance.run.case_record import case_event
from conformance.run.retries import Try
from conformance.run.try_case import _record as record_of
from tests.conformance import report_runs
from tests.conformance.expectations import USUAL, answers, observation
from tests.conformance.observations import case as redirect
from tests.conformance.observations import facts, flowed
from vm.machine import CallStatus, Reply

PACKAGE = Path(conformance.__file__).parent
LOCAL = redirect("sockmap-ingress-to-local-udp4-unix_dgram")


def find(identity: str) -> Case:
    """Return a case by its id."""
    return next(case for case in cases() if case.id == identity)


def places(grounds: tuple[Ground, ...]) -> list[str]:
    """Name the rows."""
    return [ground.place for ground in grounds]


def rows_for(version: str) -> Iterator[Ground]:
    """Yield every ground there is on a kernel."""
    kernel = facts(version)
    for case in cases():
        yield from (row.as_ground() for row in deviations(case, kernel.version))
        if (need := unmet(case, kernel)) is not None:
            yield need
        if case.group == "redirect":
            yield from expected_outcome(case, kernel).grounds()
        else:
            rules = steps.table(case.group).expected(case.params, kernel.version)
            yield from (rule.as_ground([step]) for step, rule in rules.items())


@pytest.mark.parametrize("version", ["5.10.262", "7.3.4"])
def test_every_ground_is_where_it_says(version: str) -> None:
    """The named file exists and has the row, with that commit, reason and first version."""
    found = {ground.place: ground for ground in rows_for(version)}
    files = {
        name: {row["id"]: row for rows in tomllib.loads((PACKAGE / name).read_text()).values() for row in rows}
        for name in {ground.file for ground in found.values()}
    }

    assert {
        "groups/redirect/promises-redirect.toml",
        "groups/leaks/promises.toml",
        "groups/teardown/defects-data.toml",
    } <= files.keys()
    for ground in found.values():
        row = files[ground.file][ground.row]
        if ground.source is not Source.NEED:
            assert ground.reason == row["reason"]
        if ground.source is Source.PROMISE:
            assert (ground.since, ground.commit) == (row["since"], row["commit"])


def test_a_failure_names_the_row_of_what_went_wrong() -> None:
    """A misdelivery names the row about data; a failed set-up names the row about that step."""
    sane = judge(LOCAL, facts("6.12.9"), flowed("out"))
    wrong = judge(LOCAL, facts("6.12.9"), flowed("out_peer"))

    assert (sane.verdict, wrong.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert [ground.steps for ground in wrong.grounds] == [("outcome",)]
    assert sane.grounds[0] == wrong.grounds[0]
    assert {step for ground in sane.grounds for step in ground.steps} > {"socket in", "insert out", "outcome"}


def test_a_wrong_step_names_its_row_and_no_other() -> None:
    """Of all rows about a case, only those of the wrong steps are named."""
    case = find("insert/sockmap-tcp4-fresh")
    seen = answers(case, "6.12.9")
    step = next(iter(seen))
    sane, wrong = (judge(case, facts("6.12.9"), {"steps": each}) for each in (seen, {**seen, step: "EIO"}))

    assert sorted(each for ground in sane.grounds for each in ground.steps) == sorted(seen)
    assert [ground for ground in wrong.grounds if step in ground.steps] == list(wrong.grounds)
    assert places(wrong.grounds)[0] in places(sane.grounds)


def test_a_known_defect_is_named_with_the_promise_it_breaks() -> None:
    """An xfail has the defect's row, then the rows of the steps it is about."""
    case, kernel = _with_a_defect()
    known = deviations(case, kernel.version)
    shown = observation(case, str(kernel.version), USUAL)
    shown["steps"] |= {step: each for row in known for step, each in row.answers.items()}
    shown["steps"] = {step: answer for step, answer in shown["steps"].items() if answer != steps.ABSENT}
    judged = conclude(case, kernel, Reply(status=CallStatus.ANSWERED, value=shown))

    assert judged.verdict is Verdict.XFAIL
    defects = [ground for ground in judged.grounds if ground.source is Source.DEFECT]
    assert [ground.row for ground in defects] == judged.deviation.split() == [str(known[0])]
    assert defects[0].steps == tuple(known[0].answers)
    promised = {step for ground in judged.grounds if ground.source is Source.PROMISE for step in ground.steps}
    assert promised >= set(known[0].answers)


def _with_a_defect() -> tuple[Case, KernelFacts]:
    kernel = facts("6.12.9")
    for case in cases():
        known = deviations(case, kernel.version)
        if case.group == "teardown" and len(known) == 1 and not known[0].harmful and not known[0].racy:
            return case, kernel
    raise AssertionError("no case shows one defect alone")


def test_a_case_that_cannot_be_asked_names_what_it_needs() -> None:
    """The row of needs.toml, and the sentence it makes."""
    need = unmet(redirect("sockmap-send-to-local-tcp4-tcp4"), facts("6.12.9", INET="n", BPF_SYSCALL="y"))

    assert need is not None
    assert (need.place, need.source) == ("judge/needs.toml: inet", Source.NEED)
    assert need.reason.startswith("CONFIG_INET is not set")


def test_grounds_travel_to_the_log_and_back() -> None:
    """Grounds stay data from the judgement through the worker's record to the event log."""
    judged = judge(LOCAL, facts("6.12.9"), flowed("out_peer"))
    record = json.loads(json.dumps(record_of("k", LOCAL, Try(judged), [Try(judged)])))
    event = case_event(record, "x", {"k": "debian:6.12"}, "./conform run")

    assert event.grounds == judged.grounds
    assert decode(encode(event)) == event


def test_a_log_without_grounds_is_read() -> None:
    """Logs of older suites without grounds can be read."""
    old = report_runs.healthy().cases["debian-6.12"][0]
    line = json.loads(encode(old))
    del line["grounds"]

    assert decode(json.dumps(line)) == old


@pytest.mark.parametrize(
    ("ground", "message"),
    [
        ({"file": "x", "row": "y"}, r"`grounds\[0\]`: .* required field `source`"),
        ({"file": "x", "row": "y", "source": "rumour"}, r"`grounds\[0\].source`: .* 'rumour'"),
        ({"file": 7, "row": "y", "source": "need"}, r"`grounds\[0\].file`: expected `str`, got `int`"),
        ("x", r"`grounds\[0\]`: expected `object`, got `str`"),
    ],
)
def test_a_ground_that_is_none_is_refused(ground: object, message: str) -> None:
    """A foreign log is not trusted."""
    line = json.loads(encode(report_runs.healthy().cases["debian-6.12"][0])) | {"grounds": [ground]}

    with pytest.raises(ValueError, match=message):
        decode(json.dumps(line))


def test_a_row_names_the_version_of_the_branch() -> None:
    """A stable branch has the version of its backport."""
    ground = Ground(
        file="expect/x.toml",
        row="y",
        source=Source.DEFECT,
        commit="0123456789ab",
        subject="bpf: Mend it",
        since={"mainline": "6.4", "6.1": "6.1.32"},
        until={"mainline": "7.0"},
        link="CVE-1",
    )

    sentence = 'expect/x.toml: y (since {}, until 7.0, 0123456789ab "bpf: Mend it", CVE-1)'
    assert ground.sentence("6.1.77") == sentence.format("6.1.32")
    assert ground.sentence("6.12") == ground.sentence() == sentence.format("6.4")
    assert replace(ground, since={}, until={}, commit="", subject="", link="").sentence() == "expect/x.toml: y"


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"features", "html"}))
def test_a_report_names_the_rows_of_a_failure(name: str) -> None:
    """A report of a failure has file and id of the row."""
    judged = judge(LOCAL, facts("6.12.107"), flowed("out_peer"))
    run = report_runs.sick()
    bad = run.unexpected()[0]
    run.add(replace(bad, grounds=judged.grounds))
    text = "".join(FORMATS[name].render(run).replace("\\", "").split())

    assert judged.grounds[0].file in text
    assert judged.grounds[0].row in text


def test_the_page_names_the_rows_of_a_failure() -> None:
    """So does the web page."""
    run = report_runs.sick()
    run.add(replace(run.unexpected()[0], grounds=judge(LOCAL, facts("6.12.107"), flowed("out_peer")).grounds))

    assert "<code>groups/redirect/promises-redirect.toml: " in FORMATS["html"].render(run)
