# SPDX-License-Identifier: GPL-2.0-only
"""Save time on symptoms that are confirmed: the first cases that had them showed them again in a fresh clone.

A kernel that loses every seventh message fails hundreds of cases in the same way. The first `CONFIRMED` cases of a
symptom get the full grace, and another try in a fresh clone. From then on

- the cases of that group have a short grace, where missing data cannot just be late (see the scenarios);
- a case whose every difference is confirmed is not tried again, and its record names the cases that confirmed them;
- a case that shows anything else after a wait was cut short is tried again with the full grace; that try stands.

Nothing is shared between kernels, nor between the workers of a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from conformance.groups import GROUPS
from conformance.groups.redirect.cases import roles
from conformance.groups.redirect.seen import PHASES
from conformance.guestlib import grace
from conformance.model import Case, Judgement, Verdict
from vm.machine import Reply

CONFIRMED: Final = 3
"""Cases that must show a difference, each in a fresh clone, too, before it is confirmed."""

SHORT: Final = 0.05
"""The short grace in seconds: many times what data takes, and a tenth of the full grace."""

_LIMITED: Final = f"{grace.__name__}:{grace.limited.__name__}"

_SPARED: Final = (Verdict.FAIL, Verdict.SPLAT, Verdict.PANIC, Verdict.HANG, Verdict.LOST)
"""Verdicts about the kernel. `infra` (the harness) and `xpass` (a row) are rare and always tried again."""

_PATH: Final = ("mode", "question", "ask", "way", "exit", "role", "program", "hook", "attach", "what")
"""Parameters that choose the path through the kernel, apart from the kinds of sockets."""

_NUMBER: Final = re.compile(r"\d+")

Kind = tuple[str, ...]
"""One difference without what varies from case to case: kernel, group, path, verdict, and the bare sentence."""


class Confirmations:
    """Which cases have confirmed which differences, in this process."""

    def __init__(self) -> None:
        self._cases: dict[Kind, list[str]] = {}

    def confirm(self, slug: str, case: Case, first: Judgement, again: Judgement) -> None:
        """Record the differences that a case showed in two tries."""
        for kind in _kinds(slug, case, first) & _kinds(slug, case, again):
            confirmations = self._cases.setdefault(kind, [])
            if len(confirmations) < CONFIRMED and case.id not in confirmations:
                confirmations.append(case.id)

    def of(self, slug: str, case: Case, judgement: Judgement) -> tuple[str, ...]:
        """Return the cases that confirmed all differences of this one; none unless each has enough."""
        found: dict[str, None] = {}
        kinds = _kinds(slug, case, judgement)
        for kind in kinds:
            confirmations = self._cases.get(kind, [])
            if len(confirmations) < CONFIRMED:
                return ()
            found |= dict.fromkeys(confirmations)
        return tuple(found)

    def with_short_grace(self, slug: str, case: Case) -> Case:
        """Return the case to ask: with a short grace if failures of its group are confirmed."""
        lossy = (slug, case.group, str(Verdict.FAIL))
        if not any(kind[:3] == lossy and len(found) >= CONFIRMED for kind, found in self._cases.items()):
            return case
        return replace(
            case,
            scenario=_LIMITED,
            params={**case.params, grace.SCENARIO: case.scenario, grace.SECONDS: str(SHORT)},
        )


def unwrapped(case: Case, reply: Reply) -> tuple[Reply, bool]:
    """Return the plain reply to a hurried case, and whether any of its waits was cut short."""
    value: Any = reply.value
    if case.scenario != _LIMITED or not isinstance(value, Mapping) or set(value) != {"observation", "cut"}:
        return reply, False
    # A malformed count is taken as a cut: then another try decides.
    return replace(reply, value=value["observation"]), value["cut"] != 0


def _kinds(slug: str, case: Case, judgement: Judgement) -> frozenset[Kind]:
    """Return the differences to confirm; empty for a verdict that is always tried again."""
    if judgement.verdict not in _SPARED:
        return frozenset()
    path = tuple(f"{name} {case.params[name]}" for name in _PATH if name in case.params)
    # Sentences are compared here and never read: numbers are left out, and where a group has them phases and roles,
    # because a kernel that loses data at times loses other data each time. Other groups use the word layout, too.
    vary = [*PHASES, *roles(case.params["layout"])] if GROUPS[case.group].matrix else []
    words = re.compile(rf"\b(?:{'|'.join(sorted(vary, key=len, reverse=True))})\b") if vary else None

    def bare(sentence: str) -> str:
        sentence = _NUMBER.sub("N", sentence)
        return words.sub("R", sentence) if words else sentence

    return frozenset((slug, case.group, str(judgement.verdict), *path, bare(each)) for each in judgement.differences)
