# SPDX-License-Identifier: GPL-2.0-only
"""Pass a case's record from the process that examined it to the controller, as a pytest user property."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest

from common.errors import HostError
from conformance.groups import cases
from conformance.model import Case, Verdict
from conformance.report.event_types import CaseEvent

RECORD = "conform"
"""The user property's name."""
FAULT = "conform-fault"
"""The name of the property for a host error: a sentence and a hint."""


def event_of(report: pytest.TestReport, specs: Mapping[str, str], repeat: str) -> CaseEvent | None:
    """Return the event of a finished test, or None while there is none; `specs` is slug to spec.

    A test that ended without leaving a record (its worker crashed, a fixture raised, it was marked `skip`) becomes
    `infra`: a case that was to run is never silently absent. So does one that passed, but whose teardown failed.
    """
    record = _property(report, RECORD)
    if record is not None:
        event = case_event(record, report.nodeid, specs, repeat)
        if report.when != "teardown":
            return None
        if report.passed:
            return event
        verdict = Verdict.INFRA if event.verdict.expected else event.verdict
        sentence = f"the harness {report.outcome} after the case: {_last_line(report)}"
        return replace(
            event, verdict=verdict, differences=(*event.differences, sentence), host=verdict is Verdict.INFRA
        )
    if report.passed:
        return None
    if not named(report.nodeid, specs)[0]:
        return None
    event = unjudged(report.nodeid, f"the harness {report.outcome}: {_last_line(report)}", specs, repeat)
    return replace(event, console=report.longreprtext, host=True)


def fault_of(report: pytest.TestReport) -> HostError | None:
    """Return the host error of a test, if there is one."""
    found = _property(report, FAULT)
    return HostError(found[0], hint=found[1]) if found is not None else None


def _property(report: pytest.TestReport, wanted: str) -> Any:
    return next((json.loads(str(value)) for name, value in report.user_properties if name == wanted), None)


def unjudged(nodeid: str, sentence: str, specs: Mapping[str, str], repeat: str) -> CaseEvent:
    """Return the event of a case without a verdict, with the reason."""
    slug, case = named(nodeid, specs)
    record = {
        "kernel": slug,
        "group": case.group,
        "name": case.name,
        "id": case.id,
        "params": dict(case.params),
        "verdict": str(Verdict.INFRA),
        "observed": "infra",
        "differences": [sentence],
    }
    return case_event(record, nodeid, specs, repeat)


def case_event(record: dict[str, Any], nodeid: str, specs: Mapping[str, str], repeat: str) -> CaseEvent:
    """Return the event of a record that `examine` made."""
    fields = {
        "nodeid": nodeid,
        "repeat": f"{repeat} --kernel {shlex.quote(specs[record['kernel']])} --case {shlex.quote(record['id'])}",
    }
    return msgspec.convert(record | fields, CaseEvent)


def named(nodeid: str, slugs: Iterable[str]) -> tuple[str, Case]:
    """Return kernel slug and case as a node id names them; an empty slug if it names no kernel."""
    head, _, parameters = nodeid.partition("[")
    slug = next((each for each in sorted(slugs, key=len, reverse=True) if parameters.startswith(f"{each}-")), "")
    name = parameters.removesuffix("]").removeprefix(f"{slug}-")
    group = head.rsplit("::", 1)[-1].removeprefix("test_")
    return slug, _known().get((group, name), Case(group=group, name=name, scenario="", params={}))


@cache
def _known() -> Mapping[tuple[str, str], Case]:
    return {(case.group, case.name): case for case in cases()}


def _last_line(report: pytest.TestReport) -> str:
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no detail"
