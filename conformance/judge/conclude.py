# SPDX-License-Identifier: GPL-2.0-only
"""From a machine's reply to a verdict: the state of the machine first, then the observation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from conformance.groups import GROUPS
from conformance.judge import steps
from conformance.judge.defects import Deviation, Symptom, deviations
from conformance.judge.judge import judge
from conformance.judge.klog import Report, alarming, find_reports, meaning
from conformance.model import Case, Ground, Judgement, KernelFacts, Verdict
from vm.machine import CallStatus, LogLine, Reply

Known = Callable[[str], Ground | None]
"""The ground that excuses a report by its title; None if nothing does."""

_STATUSES = {
    CallStatus.PANICKED: (Verdict.PANIC, "the kernel died"),
    CallStatus.OVERRAN: (Verdict.HANG, "the case did not end by its deadline"),
    CallStatus.LOST: (Verdict.LOST, "the machine vanished without a panic"),
    CallStatus.RAISED: (Verdict.INFRA, "the scenario raised"),
}

_STALE = re.compile(r"(?:^|[\]\s])\? \S+\+0x")
"""A frame that the unwinder marked as unreliable."""
_STARVED = "out of memory"
"""The family of reports that tell more about the size of the guest than about its kernel."""


def conclude(
    case: Case, facts: KernelFacts, reply: Reply, *, previous: str = "", known: Known = lambda title: None
) -> Judgement:
    """Judge one reply; never raises.

    The state of the machine outranks the observation, and no case passes with an incomplete log. `previous` is
    the case that the same machine answered before this one.
    """
    reports = (*reports_of(reply.before), *reports_of(reply.log))
    rows = deviations(case, facts.version)

    def excused(report: Report) -> bool:
        return known(report.title) is not None or any(row.excuses(report) for row in rows)

    trouble = trouble_of(reply, f"between {previous or 'the start of the machine'} and {case.id}", excused)
    symptom = Symptom(_answers(case, reply), reports, trouble[0] if trouble else None, _whereabouts(reply))
    shown = tuple(row for row in rows if row.shows_in(symptom))
    if trouble:
        # A machine in trouble has no further observation.
        return _deviant(troubled(*trouble), shown, shown, facts, ())
    promised = judge(case, facts, reply.value)
    if promised.verdict is Verdict.PASS:
        # The control may show the same symptom as a defect: then it is not a difference.
        shown = tuple(row for row in shown if row.harmful)
    deviant = {step: answer for row in shown for step, answer in row.answers.items()}
    gone = [row for row in rows if row not in shown]
    judgement = _deviant(
        judge(case, facts, reply.value, deviant) if deviant else promised,
        rows,
        shown,
        facts,
        _unproved(case, facts, gone, symptom.answers),
    )
    if judgement.verdict is Verdict.XFAIL and promised.verdict is Verdict.FAIL:
        # Show the promised outcome, not the defect's: the broken promise is excused, not changed.
        parts = {name: getattr(promised, name) for name in ("expected", "observed", "differences")}
        judgement = replace(judgement, **parts)
    excuses = [ground for ground in (known(report.title) for report in reports) if ground is not None]
    return _excused(judgement, excuses) if excuses and judgement.verdict.expected else judgement


def _excused(judgement: Judgement, excuses: Iterable[Ground]) -> Judgement:
    """Turn an expected verdict into xfail, because the kernel made reports that a list excuses."""
    rows = {ground.place: ground for ground in excuses}
    reasons = [judgement.reason] if judgement.deviation else []
    said = "; ".join(dict.fromkeys(ground.reason for ground in rows.values()))
    reason = "; ".join([*reasons, f"known splat: {said}"])
    return replace(judgement, verdict=Verdict.XFAIL, reason=reason, grounds=(*judgement.grounds, *rows.values()))


def _deviant(
    judgement: Judgement,
    rows: Sequence[Deviation],
    shown: Sequence[Deviation],
    facts: KernelFacts,
    unproved: Sequence[str],
) -> Judgement:
    """Take known defects into account, now that nothing else is wrong."""
    gone = [row for row in rows if row not in shown and not row.racy]
    if not (gone or shown) or (judgement.verdict is not Verdict.PASS and not any(row.verdict for row in shown)):
        return judgement
    if gone and unproved:
        return replace(judgement, verdict=Verdict.FAIL, differences=tuple(unproved))
    about = gone or shown
    names = dict.fromkeys(map(str, about))
    deviating = {step for row in about for step in row.answers}
    broken = (ground for ground in judgement.grounds if not deviating.isdisjoint(ground.steps))
    judgement = replace(
        judgement,
        verdict=Verdict.XPASS if gone else Verdict.XFAIL,
        reason="; ".join(dict.fromkeys(row.because(facts.version) for row in about)),
        differences=(),
        deviation=" ".join(names),
        grounds=(*_defects(about), *broken),
    )
    if not gone:
        return judgement
    sentences = tuple(
        f"the known defect {name} does not show: remove its row, or set `until` to this version" for name in names
    )
    return replace(judgement, differences=sentences)


def _unproved(case: Case, facts: KernelFacts, gone: Iterable[Deviation], seen: Mapping[str, str]) -> tuple[str, ...]:
    """Name the steps that show neither the known defect nor the promise that it contradicts.

    A step that is not there proves a promise only where a row says `absent`: where socket and control both lack it,
    nobody saw anything.
    """
    lacking = [(row, step) for row in gone if not row.racy for step in row.answers if step not in seen]
    if not lacking or GROUPS[case.group].judge:
        return ()
    wanted = steps.table(case.group).decided(case.params, facts.version)
    return tuple(
        f"wanted step {step} to prove that the known defect {row} is gone, got no such step from socket or control"
        for row, step in lacking
        if step not in wanted or wanted[step].outcome != steps.ABSENT
    )


def _defects(rows: Iterable[Deviation]) -> Iterator[Ground]:
    """Yield the rows as grounds; matches of one row with the same commit and version become one."""
    found: dict[tuple[object, ...], Ground] = {}
    for ground in (row.as_ground() for row in rows):
        key = (ground.file, ground.row, ground.commit, str(ground.since), str(ground.until), ground.link)
        before = found[key].steps if key in found else ()
        found[key] = replace(ground, steps=tuple(dict.fromkeys((*before, *ground.steps))))
    yield from found.values()


def _whereabouts(reply: Reply) -> str:
    """Return where a machine in trouble is, from its output, without unreliable stack frames."""
    logged = (line.text for line in (*reply.before, *reply.log))
    lines = "\n".join((reply.console, reply.error, *logged)).splitlines()
    return "\n".join(line for line in lines if not _STALE.search(line))


def _answers(case: Case, reply: Reply) -> Mapping[str, str]:
    if not isinstance(reply.value, Mapping):
        return {}
    own = GROUPS[case.group].answers
    answered = dict(own(case.params, reply.value)) if own else reply.value.get("steps")
    return answered if isinstance(answered, Mapping) else {}


def trouble_of(
    reply: Reply, between: str = "before the call", known: Callable[[Report], object] = lambda report: None
) -> tuple[Verdict, str] | None:
    """Say what happened to the machine; None if it is healthy."""
    own = reports_of(reply.log)
    before = reports_of(reply.before)
    news = [report for report in own if not known(report)]
    late = [report for report in before if not known(report)]
    if reply.status in _STATUSES and not (reply.status is CallStatus.RAISED and (news or late)):
        verdict, sentence = _STATUSES[reply.status]
        # The host's finding about a silent machine outranks its console, where our NMI shows as a panic.
        found_out = reply.error and reply.status in (CallStatus.OVERRAN, CallStatus.LOST)
        witness = own or before or (() if found_out else find_reports(reply.console.splitlines()))
        # A report that a list knows is seldom the cause of death.
        witness = tuple(report for report in witness if not known(report)) or witness
        detail = str(witness[0]) if witness else (reply.error.strip().splitlines() or [""])[-1]
        return verdict, f"{sentence}: {detail}" if detail else sentence
    too_much = f"; {reply.cut}" if reply.cut else ""
    if news:
        return _splat(news, "the kernel logged", too_much)
    if late:
        return _splat(late, f"{between} the kernel logged", too_much)
    if reply.cut:
        return Verdict.SPLAT, reply.cut
    if not reply.log_complete:
        return Verdict.INFRA, "the kernel log of this case could not be read in full"
    if alarming(reply.taint) and not own and not before:
        return Verdict.SPLAT, f"the kernel became tainted, for {meaning(alarming(reply.taint))}"
    return None


def reports_of(log: Iterable[LogLine]) -> tuple[Report, ...]:
    """Return the reports in a window of the log."""
    return find_reports(f"[{line.microseconds / 1e6:12.6f}] {text}" for line in log for text in line.text.split("\n"))


def _splat(reports: list[Report], how: str, too_much: str) -> tuple[Verdict, str]:
    """Name the first report about the kernel; if there is only out-of-memory, the guest was too small."""
    accusing = [report for report in reports if report.family != _STARVED]
    if accusing:
        return Verdict.SPLAT, f"{how}: {accusing[0]}{too_much}"
    return Verdict.INFRA, f"the guest ran out of memory; {how}: {reports[0]}{too_much}"


def troubled(verdict: Verdict, sentence: str) -> Judgement:
    """Judge a case whose machine got into trouble."""
    return Judgement(
        verdict=verdict,
        expected="a healthy kernel",
        observed=str(verdict),
        reason="every case leaves the kernel healthy",
        differences=(sentence,),
    )
