# SPDX-License-Identifier: GPL-2.0-only
"""Reduce a case's event to what can be compared: observations to outcomes, kernel reports to titles."""

from __future__ import annotations

from collections.abc import Mapping

from conformance.compare.model import Opinion, TryResult
from conformance.groups import GROUPS
from conformance.judge.klog import Report, find_reports
from conformance.model import Source, Verdict
from conformance.report.event_types import CaseEvent

_TROUBLE = (Verdict.SPLAT, Verdict.PANIC, Verdict.HANG, Verdict.LOST)
_OPINIONS = {
    Verdict.PASS: Opinion.PROMISED,
    # The defect is gone: its row is out of date, and the kernel is right.
    Verdict.XPASS: Opinion.PROMISED,
    Verdict.FAIL: Opinion.WRONG,
    Verdict.XFAIL: Opinion.WRONG,
}


def try_result(event: CaseEvent) -> TryResult:
    """Return the result of a case in words that are the same for two tries with the same behaviour."""
    if event.verdict is Verdict.SKIP:
        return TryResult((("skipped", event.reason),), Opinion.NOT_ASKED, event.reason)
    if event.verdict in _TROUBLE:
        titles = [report.title for report in _reports(event)]
        said = titles[0] if titles else "no report"
        return TryResult(((str(event.verdict), said),), Opinion.WRONG, event.reason, titles[0] if titles else "")
    answers = _answers(event)
    if event.verdict is Verdict.INFRA or not answers:
        said = event.differences[0] if event.differences else event.reason
        return TryResult((("infra", said),), Opinion.NOT_JUDGED, event.reason, host=event.host)
    if event.verdict is Verdict.XFAIL and not event.deviation:
        # Excused by a list of known splats; the log of an older suite has only a sentence.
        listed = [ground.reason for ground in event.grounds if ground.source is Source.LIST]
        title = "; ".join(listed) or event.reason
        return TryResult((*answers, ("splat", title)), Opinion.WRONG, event.reason, title)
    return TryResult(answers, _OPINIONS.get(event.verdict, Opinion.NONE), event.reason)


def _answers(event: CaseEvent) -> tuple[tuple[str, str], ...]:
    """Normalise an observation; nothing where there is none, or none that can be read."""
    observation = event.observation or {}
    steps = observation.get("steps")
    if isinstance(steps, Mapping) and steps:
        return tuple((str(step), str(answer)) for step, answer in steps.items())
    group = GROUPS.get(event.group)
    return group.answers(event.params, observation) if group and group.answers and observation else ()


def _reports(event: CaseEvent) -> tuple[Report, ...]:
    log = [f"[{line.get('microseconds', 0) / 1e6:12.6f}] {line.get('text', '')}" for line in event.log]
    return find_reports(log) or find_reports(event.console.splitlines())
