# SPDX-License-Identifier: GPL-2.0-only
"""The report as KCIDB 5.3 JSON (https://github.com/kernelci/kcidb-io): a checkout and a build for each kernel.

A known defect is an issue; a case that shows it failed, with an incident of that issue, and a case that does not
show it any more has an incident that is not present. Before a submission, put the origin agreed with KernelCI in
the place of ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from conformance.model import Ground, Verdict
from conformance.report.event_types import CaseEvent, KernelEvent
from conformance.report.events import Run, encode
from conformance.report.findings import evidence_sources, story
from conformance.report.known import defects_of, summary_of

ORIGIN: Final = "sockmap_conformance"

_STATUS = {
    Verdict.PASS: "PASS",
    Verdict.XPASS: "PASS",
    Verdict.SKIP: "SKIP",
    Verdict.INFRA: "ERROR",
}
"""Any other verdict is about the kernel: FAIL."""
_EXCERPT = 16384
"""Characters, by the schema."""
_COMPILER = re.compile(r"Linux version \S+ \([^)]*\) \((?P<compiler>.*?)\) #")
_COMMIT = re.compile("[0-9a-f]{40}")


def render(run: Run) -> str:
    """Return the report."""
    tests = [test for slug in run.slugs for test in _tests(run, run.kernel(slug))]
    kernels = [run.kernel(slug) for slug in run.slugs]
    deviant = [case for slug in run.slugs for case in run.cases.get(slug, ()) if case.deviation]
    report = {
        "version": {"major": 5, "minor": 3},
        "checkouts": list({each["id"]: each for each in map(_checkout, kernels)}.values()),
        "builds": list({each["id"]: each for each in map(_build, kernels)}.values()),
        "tests": tests,
        "issues": list({each["id"]: each for case in deviant for each in _issues(case)}.values()),
        "incidents": [each for case in deviant for each in _incidents(run, case)],
    }
    # The schema refuses NUL in any text, and a console may hold one.
    return json.dumps(report, indent=1).replace(r"\u0000", r"\ufffd") + "\n"


def _checkout(kernel: KernelEvent) -> dict[str, Any]:
    commit = next((value for value in kernel.package.values() if _COMMIT.fullmatch(value)), "")
    return _filled(
        id=_id(kernel.digest or kernel.slug),
        origin=ORIGIN,
        git_commit_hash=commit,
        git_commit_name=kernel.release,
        comment=kernel.spec,
        misc=dict(kernel.package),
    )


def _build(kernel: KernelEvent) -> dict[str, Any]:
    compiler = _COMPILER.match(kernel.banner)
    return _filled(
        id=_id(kernel.digest or kernel.slug),
        checkout_id=_id(kernel.digest or kernel.slug),
        origin=ORIGIN,
        architecture="x86_64",
        compiler=compiler["compiler"] if compiler else "",
        comment=kernel.banner,
        status="PASS",
        misc=_filled(config_sha256=kernel.config_sha256, digest=kernel.digest),
    )


def _tests(run: Run, kernel: KernelEvent) -> Iterator[dict[str, Any]]:
    machine = f"{kernel.spec}: {kernel.machine} under {kernel.accelerator}" if kernel.machine else kernel.spec
    common = {"build_id": _id(kernel.digest or kernel.slug), "origin": ORIGIN, "environment": {"comment": machine}}
    if kernel.error:
        # A kernel that could not be judged: the cause may be the kernel or the host.
        failed = _filled(status="ERROR", comment=kernel.error, misc=_filled(hint=kernel.hint))
        yield {**common, "id": _id(_run(run), kernel.slug, "boot"), "path": "boot", **failed}
    for case in run.cases.get(kernel.slug, ()):
        yield {**common, **_test(run, case)}


def _test(run: Run, case: CaseEvent) -> dict[str, Any]:
    began = datetime.fromisoformat(run.start.started) + timedelta(seconds=max(0.0, case.at - case.seconds))
    excerpt = "\n".join(line for _, text in evidence_sources(case) for line in text)
    about = {} if case.verdict is Verdict.PASS else {"comment": "\n".join(story(case, run.kernel(case.kernel)))}
    return _filled(
        id=_test_id(run, case),
        path=f"sockmap.{case.group}.{case.name}",
        status=_STATUS.get(case.verdict, "FAIL"),
        start_time=began.isoformat(timespec="milliseconds"),
        duration=case.seconds,
        log_excerpt=excerpt[-_EXCERPT:],
        misc=_misc(case),
        **about,
    )


def _misc(case: CaseEvent) -> dict[str, Any]:
    properties = {"verdict": str(case.verdict), **case.params, "expected": case.expected, "observed": case.observed}
    return properties | _filled(grounds=[ground.place for ground in case.grounds])


def _issues(case: CaseEvent) -> Iterator[dict[str, Any]]:
    grounds: dict[str, list[Ground]] = {}
    for ground in defects_of(case):
        grounds.setdefault(ground.row, []).append(ground)
    for name, rows in grounds.items():
        about = {"comment": f"known defect {name}: {summary_of(rows)}", "misc": _filled(file=rows[0].file)}
        yield _filled(id=_id(name), version=1, origin=ORIGIN, culprit={"code": True}, **about)


def _incidents(run: Run, case: CaseEvent) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys(ground.row for ground in defects_of(case)):
        yield {
            "id": f"{_test_id(run, case)}:{name}",
            "origin": ORIGIN,
            "issue_id": _id(name),
            "issue_version": 1,
            "test_id": _test_id(run, case),
            "present": case.verdict is Verdict.XFAIL,
            "comment": case.reason,
        }


def _test_id(run: Run, case: CaseEvent) -> str:
    return _id(_run(run), case.kernel, case.group, case.name)


def _run(run: Run) -> str:
    """Name the run, the same for the same log."""
    # New fields of the event log must not change the name of a run that was submitted before.
    encoded = encode(run.start).replace(',"quick":{}', "")
    return hashlib.sha256(encoded.encode()).hexdigest()[:16]


def _id(*parts: str) -> str:
    return ":".join((ORIGIN, *parts))


def _filled(**fields: Any) -> dict[str, Any]:
    """Leave out empty fields: KCIDB would take them for data."""
    return {name: value for name, value in fields.items() if value not in ("", {}, [], None)}
