# SPDX-License-Identifier: GPL-2.0-only
"""From a case's line in the event log to its symptom: observations become outcomes, reports become titles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from conformance.compare.model import Opinion
from conformance.compare.model import Symptom
from conformance.groups.redirect.differences import flow_differences
from conformance.groups.redirect.outcomes import OTHER
from conformance.groups.redirect.outcomes import OUTCOMES
from conformance.groups.redirect.seen import MalformedError
from conformance.groups.redirect.seen import Seen
from conformance.groups.redirect.seen import read
from conformance.judge.judge import observed_outcome
from conformance.judge.klog import Report
from conformance.judge.klog import find_reports
from conformance.model import Source
from conformance.model import Verdict
from conformance.report.events import CaseEvent

_TROUBLE = (Verdict.SPLAT, Verdict.PANIC, Verdict.HANG, Verdict.LOST)
_OPINIONS = {
    Verdict.PASS: Opinion.PROMISED,
    # A deviation that is gone: the list of them is stale, the kernel is not.
    Verdict.XPASS: Opinion.PROMISED,
    Verdict.FAIL: Opinion.WRONG,
    Verdict.XFAIL: Opinion.WRONG,
}
_NUMBER = re.compile(r"\d+")


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
    return _redirect(event.params, observation) if event.group == "redirect" and observation else ()


def _redirect(params: Mapping[str, str], observation: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    try:
        seen = read(observation, params["layout"])
        outcome = observed_outcome(params, seen)
    except (MalformedError, KeyError):
        return ()
    refused = tuple((f"attaching {kind}", answer) for kind, answer in seen.attach[:-1])
    if outcome != OTHER:
        return (("outcome", outcome), *refused)
    return (("outcome", _nearest(params, seen)), *refused)


def _nearest(params: Mapping[str, str], seen: Seen) -> str:
    """Say how it misses the outcome that it misses least; numbers are left out, for a race loses now this, now that."""
    missed = {name: tuple(flow_differences(params, outcome, seen)) for name, outcome in OUTCOMES.items()}
    name = min(missed, key=lambda each: len(missed[each]))
    return f"not {name}: {'; '.join(_without_numbers(missed[name]))}"


def _without_numbers(sentences: Iterable[str]) -> list[str]:
    return sorted({_NUMBER.sub("N", sentence) for sentence in sentences})


def _reports(event: CaseEvent) -> tuple[Report, ...]:
    log = [f"[{line.get('microseconds', 0) / 1e6:12.6f}] {line.get('text', '')}" for line in event.log]
    return find_reports(log) or find_reports(event.console.splitlines())
