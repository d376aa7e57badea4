# SPDX-License-Identifier: GPL-2.0-only
"""Examine one case on one kernel: from the request to the record for the event log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from common.errors import ConformError, HostError
from conformance.judge.conclude import conclude, trouble_of, troubled
from conformance.judge.defects import deviations
from conformance.judge.lists import Lists
from conformance.judge.needs import unmet
from conformance.model import Case, Ground, Judgement, KernelFacts, Source, Verdict
from conformance.run.machine_pool import MachinePool
from conformance.run.retries import Repetition, Try, disagree, gathered, worst
from conformance.run.sparing import unwrapped
from vm.machine import NO_EVIDENCE, CallStatus, Evidence, Reply

_NO_LISTS = Lists()
_ONCE = Repetition()
_PERHAPS_LACKING = (Verdict.FAIL, Verdict.XPASS, Verdict.INFRA)
"""The verdicts that a missing kind of socket can cause."""


def examine(
    pool: MachinePool,
    slug: str,
    case: Case,
    lists: Lists = _NO_LISTS,
    how: Repetition = _ONCE,
    *,
    last: bool = False,
) -> tuple[Judgement, dict[str, Any]]:
    """Return the judgement and the record (JSON types only); HostError if this host cannot run a machine any more.

    The verdict of the repetitions stands. Further tries, in fresh clones, only show whether it is stable.
    After the `last` case of a machine, its late log lines are read.
    """
    facts = pool.facts(slug)
    missing = [*_refusals(case, facts, lists), *_harms(pool, slug, case, facts)]
    missing = missing or _grounds(unmet(case, facts, pool.known_lacking(slug, case)))
    if missing:
        skipped = Try(_skip(missing))
        skipped = _and_after(skipped, pool, slug, lists) if last else skipped
        return skipped.judgement, _record(slug, case, skipped, [skipped])
    tries = gathered(_repetitions(pool, slug, case, lists, how, last=last))
    if missing := _inabilities(pool, slug, case, facts, tries):
        skipped = Try(_skip(missing))
        return skipped.judgement, _record(slug, case, skipped, [skipped])
    standing, confirmations = _confirmed(pool, slug, case, lists, how, tries)
    record = _record(slug, case, standing, tries, confirmations)
    rows = deviations(case, facts.version)
    return standing.judgement, record | {"may_show": list(dict.fromkeys(str(row) for row in rows if not row.racy))}


def _confirmed(
    pool: MachinePool, slug: str, case: Case, lists: Lists, how: Repetition, tries: list[Try]
) -> tuple[Try, tuple[str, ...]]:
    """Add to the `tries` of a case those in fresh clones that confirm it.

    Returns the try that stands, and the cases that made others needless, see sparing.py.
    """
    standing = worst(tries)
    confirmations = pool.confirmations.of(slug, case, standing.judgement) if how.sparing else ()
    if confirmations or standing.judgement.verdict.expected or standing.reply is None:
        return standing, confirmations
    if standing.hasty:
        again = once(pool, slug, case, lists, fresh=True, last=True)
        if again.reply is None:
            return standing, ()
        tries.append(again)
        return _confirmed(pool, slug, case, lists, how, tries)
    for _ in range(how.tries - 1):
        again = once(pool, slug, case, lists, fresh=True, last=True)
        if again.reply is None:
            break
        tries.append(again)
        if disagree(tries):
            break
        pool.confirmations.confirm(slug, case, standing.judgement, again.judgement)
    return standing, ()


def once(
    pool: MachinePool,
    slug: str,
    case: Case,
    lists: Lists = _NO_LISTS,
    *,
    fresh: bool = False,
    last: bool = False,
    hurried: bool = False,
    evidence: Evidence = NO_EVIDENCE,
) -> Try:
    """Try a case once; raises only HostError, if this host cannot run a machine any more.

    After the `last` case of a machine, and after an unexpected one, late log lines count, too. A
    `hurried` try looks for missing data for a shorter time.
    """
    if fresh:
        pool.close()
    asked = pool.confirmations.with_short_grace(slug, case) if hurried else case
    try:
        reply, hasty = unwrapped(asked, pool.ask(slug, asked, evidence))
    except HostError:
        raise
    except ConformError as error:
        return _unanswered(f"no machine: {error}", error.hint, fresh=fresh)
    found = replace(_concluded(pool, slug, case, lists, reply), fresh=fresh, hasty=hasty)
    if last or not found.judgement.verdict.expected:
        found = _and_after(found, pool, slug, lists)
    if not found.judgement.verdict.expected and (flaw := reply.host_fault or pool.flaw()):
        return replace(found, judgement=_unanswered(flaw).judgement, flawed=True)
    return found


def _concluded(pool: MachinePool, slug: str, case: Case, lists: Lists, reply: Reply) -> Try:
    """Judge a reply; the log of an unexpected one is decoded."""
    facts = pool.facts(slug)
    judgement = conclude(
        case, facts, reply, previous=pool.previous, known=lambda title: lists.known(title, facts.version)
    )
    if not judgement.verdict.expected:
        reply = pool.decoded(slug, reply)
    return Try(judgement, reply, log=(*reply.before, *reply.log), seconds=reply.seconds)


def _and_after(found: Try, pool: MachinePool, slug: str, lists: Lists) -> Try:
    """Judge a case also by the log lines after the machine's last answer, if the machine still runs."""
    since = f"after {pool.asked}, the machine's last case,"
    reply = pool.read_late_log()
    if reply is None:
        return found
    version = pool.facts(slug).version
    late = replace(reply, before=(*reply.before, *reply.log), log=())
    trouble = trouble_of(late, since, known=lambda report: lists.known(report.title, version))
    if trouble is None:
        return found
    said = pool.decoded(slug, late).before
    judgement = troubled(*trouble)
    differences = (*judgement.differences, *found.judgement.differences)
    return replace(found, judgement=replace(judgement, differences=differences), log=(*found.log, *said))


def _refusals(case: Case, facts: KernelFacts, lists: Lists) -> Iterator[Ground]:
    """Yield reasons why this kernel is not asked this case."""
    return (each for each in (lists.refusal(case.id, facts.version), unmet(case, facts)) if each is not None)


def _inabilities(pool: MachinePool, slug: str, case: Case, facts: KernelFacts, tries: list[Try]) -> list[Ground]:
    """Return the reason why this guest cannot run a failed case, or one that skipped itself, by what is missing.

    Nothing if no machine answers. The verdict of a kernel that warned, died or hung stands, whatever the guest lacks.
    """
    unexpected = [each for each in tries if not each.judgement.verdict.expected]
    skipped = all(each.judgement.verdict is Verdict.SKIP for each in tries)
    if not (skipped or (unexpected and all(_may_lack_something(each) for each in unexpected))):
        return []
    try:
        return _grounds(unmet(case, facts, pool.lacking(slug, case)))
    except ConformError:
        return []


def _may_lack_something(found: Try) -> bool:
    answered = found.reply is not None and found.reply.status in (CallStatus.ANSWERED, CallStatus.RAISED)
    return answered and found.judgement.verdict in _PERHAPS_LACKING


def _grounds(need: Ground | None) -> list[Ground]:
    return [need] if need is not None else []


def _harms(pool: MachinePool, slug: str, case: Case, facts: KernelFacts) -> Sequence[Ground]:
    """Return the defects for which a case must not run on `host`."""
    harms = [row.as_ground() for row in deviations(case, facts.version) if row.harmful]
    return harms if harms and pool.kernels[slug].is_host else ()


def _skip(grounds: Sequence[Ground]) -> Judgement:
    """Judge a case that is not asked, by the first reason; all harmful defects together are one reason."""
    first, harms = grounds[0], dict.fromkeys(each.row for each in grounds)
    if first.source is not Source.DEFECT:
        return Judgement(Verdict.SKIP, "", "skip", first.reason, grounds=(first,))
    reason = f"not run on the host's own kernel, which it could crash or hang: {' '.join(harms)}"
    return Judgement(Verdict.SKIP, "", "skip", reason, grounds=tuple(grounds))


def unanswered(slug: str, case: Case, sentence: str) -> tuple[Judgement, dict[str, Any]]:
    """Return the judgement and the record of a case that no machine answered, because of the harness."""
    found = _unanswered(sentence)
    return found.judgement, _record(slug, case, found, [found])


def _unanswered(sentence: str, hint: str = "", *, fresh: bool = False) -> Try:
    return Try(Judgement(Verdict.INFRA, "", "infra", hint, (sentence,)), fresh=fresh)


def _repetitions(
    pool: MachinePool, slug: str, case: Case, lists: Lists, how: Repetition, *, last: bool
) -> Iterator[Try]:
    """Yield the unconditional tries of a case; at least one, which may be unanswered."""
    end = time.monotonic() + how.seconds
    count = 0
    while not count or (count < how.repeat and time.monotonic() < end):
        count += 1
        ending = last and count >= how.repeat
        found = once(pool, slug, case, lists, fresh=how.isolated, last=ending or how.isolated, hurried=how.sparing)
        if found.flawed:
            yield found
            found = once(pool, slug, case, lists, fresh=True, last=ending or how.isolated)
        yield found
        if found.reply is None or (how.until_fail and not found.judgement.verdict.expected):
            return


def _record(
    slug: str, case: Case, standing: Try, tries: Sequence[Try], confirmations: Sequence[str] = ()
) -> dict[str, Any]:
    judgement, reply = standing.judgement, standing.reply
    several = len(tries) > 1 or standing.times > 1
    quiet = judgement.verdict in (Verdict.PASS, Verdict.SKIP)
    return {
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
        "deviation": judgement.deviation,
        "grounds": [asdict(ground) for ground in judgement.grounds],
        "observation": _observation(reply) if reply is not None else None,
        "error": reply.error if reply is not None else "",
        "log": [] if quiet else [asdict(line) for line in standing.log],
        "console": reply.console if reply is not None else "",
        "seconds": round(reply.seconds, 4) if reply is not None else 0.0,
        "tries": [each.record() for each in tries] if several else [],
        "flaky": disagree(tries),
        "hasty": standing.hasty,
        "host": standing.flawed,
        "confirmed_by": list(confirmations),
    }


def _observation(reply: Reply) -> Mapping[str, Any] | None:
    """Return the observation; a result that no scenario returns is put into one, so that the log holds it."""
    if reply.status is not CallStatus.ANSWERED or reply.value is None:
        return None
    fits = isinstance(reply.value, dict) and isinstance(reply.value.get("steps") or {}, dict)
    return reply.value if fits else {"result": reply.value}
