# SPDX-License-Identifier: GPL-2.0-only
"""How a case's record travels from the process that examined it to the controller: as a pytest user property."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import pytest

from conformance.model import Case
from conformance.model import Verdict
from conformance.report.events import CaseEvent

RECORD = "conform"
"""The user property's name."""


def event_of(report: pytest.TestReport, specs: Mapping[str, str], repeat: str) -> CaseEvent | None:
    """Return the event of a finished test, or None while there is none; `specs` is slug to spec.

    A test that ended without leaving a record (its worker crashed, a fixture raised, somebody marked it `skip`) becomes
    `infra`: a case that was to run is never silently absent.
    """
    record = next((json.loads(str(value)) for name, value in report.user_properties if name == RECORD), None)
    if record is not None:
        return case_event(record, report.nodeid, specs, repeat) if report.when == "call" else None
    if report.passed:
        return None
    slug, case = named(report.nodeid, specs)
    if not slug:
        return None
    lost = {
        "kernel": slug,
        "group": case.group,
        "name": case.name,
        "id": case.id,
        "verdict": str(Verdict.INFRA),
        "observed": "infra",
        "differences": [f"the harness {report.outcome}: {_last_line(report)}"],
        "console": report.longreprtext,
    }
    return case_event(lost, report.nodeid, specs, repeat)


def case_event(record: dict[str, Any], nodeid: str, specs: Mapping[str, str], repeat: str) -> CaseEvent:
    """Return the event of a record that `examine` made."""
    values = record | {
        "verdict": Verdict(record["verdict"]),
        "differences": tuple(record["differences"]),
        "log": tuple(record.get("log", ())),
        "tries": tuple(record.get("tries", ())),
        "nodeid": nodeid,
        "repeat": f"{repeat} --kernel {shlex.quote(specs[record['kernel']])} -k {record['name']}",
    }
    return CaseEvent(**values)


def named(nodeid: str, slugs: Iterable[str]) -> tuple[str, Case]:
    """Return kernel slug and case as a node id names them; an empty slug if it names no kernel."""
    head, _, parameters = nodeid.partition("[")
    slug = next((each for each in sorted(slugs, key=len, reverse=True) if parameters.startswith(f"{each}-")), "")
    name = parameters.removesuffix("]").removeprefix(f"{slug}-")
    group = head.rsplit("::", 1)[-1].removeprefix("test_")
    return slug, Case(group=group, name=name, scenario="", params={})


def _last_line(report: pytest.TestReport) -> str:
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no detail"
