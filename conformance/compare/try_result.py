# SPDX-License-Identifier: GPL-2.0-only
"""From a case's line in the event log to its symptom: observations become outcomes, reports become titles."""

from __future__ import annotations

from collections.abc import Mapping

from conformance.compare.model import Opinion, Symptom
from conformance.groups import GROUPS
from conformance.judge.klog import Report, find_reports
from conformance.model import Source, Verdict
from conformance.report.events import CaseEvent

_TROUBLE = (Verdict.SPLAT, Verdict.PANIC, Verdict.HANG, Verdict.LOST)
_OPINIONS = {
    Verdict.PASS: Opinion.PROMISED,
    # A deviation that is gone: the list of them is stale, the kernel is not.
    Verdict.XPASS: Opinion.PROMISED,
    Verdict.FAIL: Opinion.WRONG,
    Verdict.XFAIL: Opinion.WRONG,
}


def symptom_of(event: CaseEvent) -> Symptom:
    """Return what the case came to, in words that two tries of one behaviour share."""
    if event.verdict is Verdict.SKIP:
        return Symptom((("skipped", event.reason),), Opinion.NOT_ASKED, event.reason)
    if event.verdict in _TROUBLE:
        titles = [report.title for report in _reports(event)]
        said = titles[0] if titles else "no report"
        return Symptom(((str(event.verdict), said),), Opinion.WRONG, event.reason, titles[0] if titles else "")
    answers = _answers(event)
    if not answers:
        said = event.differences[0] if event.differences else event.reason
        return Symptom((("infra", said),), Opinion.NOT_JUDGED, event.reason)
    if event.verdict is Verdict.XFAIL and not event.deviation:
        # Only a list of known splats excuses it; an older log has no more than a sentence.
        listed = [ground.reason for ground in event.grounds if ground.source is Source.LIST]
        title = "; ".join(listed) or event.reason
        return Symptom((*answers, ("splat", title)), Opinion.WRONG, event.reason, title)
    return Symptom(answers, _OPINIONS.get(event.verdict, Opinion.NONE), event.reason)


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
