# SPDX-License-Identifier: GPL-2.0-only
"""An unexpected case as a bug report of ten lines: what the case did, expected and observed, on which ground."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.program import NEUTRAL
from conformance.expect.words import brief
from conformance.groups.redirect.outcomes import OTHER
from conformance.model import Case, Verdict
from conformance.report.event_types import CaseEvent, KernelEvent
from conformance.report.findings import evidence, rows, why
from conformance.report.style import WIDTH, Style

LINES = 10
"""Lines of one case; the evidence has the rest."""
_PHASE = re.compile(r"(?P<phase>\w+): (?P<said>.*)", re.DOTALL)
"""A difference of a redirect case begins with its phase."""
_NUMBER = re.compile(r"\d+")


@dataclass(slots=True)
class _Part:
    """Lines of the report under one label."""

    lines: list[str]
    least: int
    """Lines that are kept, however long the report is."""


def bug_report(case: CaseEvent, kernel: KernelEvent, title: str, style: Style) -> list[str]:
    """Return the report of a case; `title` is its first line, which may be in colour."""
    parts = [_Part([title], 1), _part("", case.id, style, least=2)]
    parts += [_part("scenario", _scenario(case), style)]
    because = why(case) if case.verdict is Verdict.FAIL else ""
    parts += [_part("expected", ", because ".join(filter(None, (case.expected, because))), style)]
    # The last line of a traceback, which tells most, is what was observed.
    excerpts = [each for each in evidence(case) if each.source != "traceback"]
    parts += [_Part(_observed(case, style), 1 if excerpts else 2)]
    for excerpt in excerpts[:1]:
        shown = [style.cut(f"     {line}", WIDTH) for line in excerpt.excerpt]
        parts += [_Part([f"   {excerpt}", *shown], 2)]
    grounds = rows(case, kernel)
    more = f" and {len(grounds) - 1} more" if len(grounds) > 1 else ""
    parts += [_part("ground", f"{grounds[0]}{more}" if grounds else "", style)]
    parts += [_part("evidence", case.evidence, style)]
    repeat = command_lines("repeat", case.repeat, style)
    return [*_fitted(parts, LINES - len(repeat), style), *repeat]


def folded(differences: Iterable[str]) -> list[str]:
    """Return the differences; those that differ only in numbers or phases are folded into one."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for each in differences:
        found = _PHASE.fullmatch(each)
        phase, said = (found["phase"], found["said"]) if found else ("", each)
        groups.setdefault(_NUMBER.sub("N", said), []).append((phase, said))
    return [_alike(group) for group in groups.values()]


def _alike(group: Sequence[tuple[str, str]]) -> str:
    """Return the first of similar differences, and the number and phases of the others."""
    phase, said = group[0]
    first = f"{phase}: {said}" if phase else said
    others = [each for each, _ in group[1:] if each != phase]
    more = len(group) - 1 - len(others)
    alike = [f"{more} more"] if more else []
    alike += [" and ".join(dict.fromkeys(others))] if others else []
    return f"{first} (the same for {', '.join(alike)})" if alike else first


def _scenario(case: CaseEvent) -> str:
    """Say what the case does, if words.toml has it."""
    return brief(Case(case.group, case.name, "", case.params))


def _observed(case: CaseEvent, style: Style) -> list[str]:
    """Return the outcome, unless the differences say all of it, and the differences."""
    vague = case.differences and case.observed in (OTHER, str(case.verdict))
    observations = [*([] if vague or not case.observed else [case.observed]), *folded(case.differences)]
    labelled = zip(("observed", *("" for _ in observations)), observations, strict=False)
    return [line for label, each in labelled for line in style.wrap(each, first=f"   {label:9} ")]


def _part(label: str, text: str, style: Style, *, least: int = 1) -> _Part:
    return _Part(style.wrap(text, first=f"   {label:9} " if label else "   ") if text else [], least)


def _fitted(parts: Sequence[_Part], room: int, style: Style) -> list[str]:
    """Return lines that fit: the longest part loses its last line until they do."""
    while sum(len(part.lines) for part in parts) > room:
        longest = max(parts, key=lambda part: len(part.lines) - part.least)
        if len(longest.lines) <= longest.least:
            break
        longest.lines.pop()
        last = longest.lines[-1].removesuffix(style.show("…")).rstrip(" ,;")
        longest.lines[-1] = f"{last[: WIDTH - 1]}{style.show('…')}"
    return [line for part in parts for line in part.lines]


def command_lines(label: str, command: str, style: Style) -> list[str]:
    """Fold a shell command at its words, so that it can still be pasted."""
    if not command:
        return []
    try:
        split = shlex.split(command)
        # git changes the directory before it starts what `git bisect run` names.
        called = style.anywhere if split[:1] == ["git"] else style.program
        words = [called if word == NEUTRAL else shlex.quote(word) for word in split]
    except ValueError:
        words = [command]
    lines = [f"   {label:9}"]
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        together = f"{word} {following}" if word.startswith("-") and not following.startswith("-") else word
        if len(lines[-1]) + len(together) + 3 > WIDTH and lines[-1].strip() != label:
            lines[-1] += " \\"
            # The longest word is a case's id, which must stay whole to be pasted.
            lines.append(" " * max(0, min(14, WIDTH - len(word) - 3)))
        lines[-1] += f" {word}"
    return [style.show(line) for line in lines]
