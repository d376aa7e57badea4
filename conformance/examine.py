# SPDX-License-Identifier: GPL-2.0-only
"""Carry one case to one kernel and back: the record that becomes its line in the event log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from common.errors import ConformError
from conformance.conclude import conclude
from conformance.expect.deviations import deviations
from conformance.expect.judge import unmet
from conformance.expect.lists import Lists
from conformance.model import Case
from conformance.model import Judgement
from conformance.model import KernelFacts
from conformance.model import Verdict
from conformance.tries import Repetition
from conformance.tries import Try
from conformance.tries import disagree
from conformance.tries import gathered
from conformance.tries import worst
from conformance.workbench import Workbench
from vm.machine import NO_EVIDENCE
from vm.machine import Evidence
from vm.machine import Fate

_NO_LISTS = Lists()
_ONCE = Repetition()


def examine(
    workbench: Workbench, slug: str, case: Case, lists: Lists = _NO_LISTS, how: Repetition = _ONCE
) -> tuple[Judgement, dict[str, Any]]:
    """Return the judgement and the record (JSON types only); never raises for anything the kernel or machine does.

    What the repetitions came to stands. Further tries, in fresh clones, only tell whether it comes to that each time.
    """
    facts = workbench.facts(slug)
    if missing := lists.refusal(case.id, facts.version) or unmet(case, facts) or _harm(workbench, slug, case, facts):
        skipped = Try(Judgement(Verdict.SKIP, "", "skip", missing))
        return skipped.judgement, _record(slug, case, skipped, [skipped])
    tries = gathered(_repetitions(workbench, slug, case, lists, how))
    standing = worst(tries)
    if not standing.judgement.verdict.expected and standing.reply is not None:
        for _ in range(how.tries - 1):
            again = once(workbench, slug, case, lists, fresh=True)
            if again.reply is None:
                break
            tries.append(again)
            if disagree(tries):
                break
    return standing.judgement, _record(slug, case, standing, tries)


def in_fresh_clones(
    workbench: Workbench, slug: str, case: Case, times: int, lists: Lists = _NO_LISTS
) -> tuple[Try, ...]:
    """Put a case to a kernel `times` times, each time in a clone that has seen no other case."""
    return tuple(once(workbench, slug, case, lists, fresh=True) for _ in range(times))


def once(
    workbench: Workbench,
    slug: str,
    case: Case,
    lists: Lists = _NO_LISTS,
    *,
    fresh: bool = False,
    evidence: Evidence = NO_EVIDENCE,
) -> Try:
    """Put a case to a kernel once; never raises for anything the kernel or machine does."""
    if fresh:
        workbench.close()
    facts = workbench.facts(slug)
    try:
        reply = workbench.ask(slug, case, evidence)
    except ConformError as error:
        return Try(Judgement(Verdict.INFRA, "", "infra", error.hint, (f"no machine: {error}",)), fresh=fresh)
    judgement = conclude(
        case,
        facts,
        reply,
        neighbour=workbench.neighbour,
        known=lambda title: lists.known(title, facts.version),
    )
    if not judgement.verdict.expected:
        reply = workbench.decoded(slug, reply)
    return Try(judgement, reply, log=(*reply.before, *reply.log), fresh=fresh, seconds=reply.seconds)


def _harm(workbench: Workbench, slug: str, case: Case, facts: KernelFacts) -> str:
    """Say why a case is not for the kernel that the user works on; empty if it is."""
    harm = " ".join(str(row) for row in deviations(case, facts.version) if row.harmful)
    if not harm or not workbench.kernels[slug].is_host:
        return ""
    return f"known to harm this kernel, which is the running one: {harm}"


def _repetitions(workbench: Workbench, slug: str, case: Case, lists: Lists, how: Repetition) -> Iterator[Try]:
    """Yield each try of a case that is made whatever it comes to; at least one, the last one unanswered if need be."""
    end = time.monotonic() + how.seconds
    count = 0
    while not count or (count < how.repeat and time.monotonic() < end):
        count += 1
        found = once(workbench, slug, case, lists, fresh=how.isolated)
        yield found
        if found.reply is None or (how.until_fail and not found.judgement.verdict.expected):
            return


def _record(slug: str, case: Case, standing: Try, tries: Sequence[Try]) -> dict[str, Any]:
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
        "observation": reply.value if reply is not None and reply.fate is Fate.ANSWERED else None,
        "error": reply.error if reply is not None else "",
        "log": [] if quiet else [asdict(line) for line in standing.log],
        "console": reply.console if reply is not None else "",
        "seconds": round(reply.seconds, 4) if reply is not None else 0.0,
        "tries": [each.record() for each in tries] if several else [],
        "flaky": disagree(tries),
    }
