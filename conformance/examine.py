# SPDX-License-Identifier: GPL-2.0-only
"""Carry one case to one kernel and back: the record that becomes its line in the event log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from common.errors import ConformError
from conformance.conclude import conclude
from conformance.expect.judge import unmet
from conformance.expect.lists import Lists
from conformance.model import Case
from conformance.model import Judgement
from conformance.model import Verdict
from conformance.workbench import Workbench
from vm.machine import Fate
from vm.machine import Reply

_NO_LISTS = Lists()


def examine(workbench: Workbench, slug: str, case: Case, lists: Lists = _NO_LISTS) -> tuple[Judgement, dict[str, Any]]:
    """Return the judgement and the record (JSON types only); never raises for anything the kernel or machine does."""
    facts = workbench.facts(slug)
    missing = lists.refusal(case.id, facts.version) or unmet(case, facts)
    if missing:
        return _record(slug, case, Judgement(Verdict.SKIP, "", "skip", missing), None)
    try:
        reply = workbench.ask(slug, case)
    except ConformError as error:
        sentence = f"no machine: {error}"
        return _record(slug, case, Judgement(Verdict.INFRA, "", "infra", error.hint, (sentence,)), None)
    judgement = conclude(
        case,
        facts,
        reply,
        neighbour=workbench.neighbour,
        known=lambda title: lists.known(title, facts.version),
    )
    return _record(slug, case, judgement, reply)


def _record(slug: str, case: Case, judgement: Judgement, reply: Reply | None) -> tuple[Judgement, dict[str, Any]]:
    trouble = reply is not None and not judgement.verdict.expected
    return judgement, {
        "kernel": slug,
        "group": case.group,
        "name": case.name,
        "id": case.id,
        "params": dict(case.params),
        "verdict": str(judgement.verdict),
        "expected": judgement.expected,
        "observed": judgement.observed,
        "reason": judgement.reason,
        "differences": list(judgement.differences),
        "observation": reply.value if reply is not None and reply.fate is Fate.ANSWERED else None,
        "error": reply.error if reply is not None else "",
        "log": [asdict(line) for line in (*reply.before, *reply.log)] if reply is not None and trouble else [],
        "console": reply.console if reply is not None else "",
        "seconds": round(reply.seconds, 4) if reply is not None else 0.0,
    }
