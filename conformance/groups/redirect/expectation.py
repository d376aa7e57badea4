# SPDX-License-Identifier: GPL-2.0-only
"""The expectation of a redirect case on a kernel version, combined from the rows of the tables."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from common.errors import KernelError
from conformance.expect.rules import Rule, RuleTable, grounds_of
from conformance.groups.kinds import FAMILIES, KINDS
from conformance.groups.redirect.cases import redirect_cases, roles
from conformance.groups.redirect.outcomes import OUTCOMES, Outcome
from conformance.model import Case, Ground, KernelFacts
from kernels.version import Version

HERE: Final = Path(__file__).parent

PROGRAMS: Final = ("none", "sk_msg_verdict", "sk_skb_verdict", "sk_skb_stream_verdict", "sk_skb_stream_parser")
"""The programs that a map can have; a stream parser comes with a stream verdict."""

_RESULTS: Final = frozenset({"ok", *(name for name in dir(errno) if name.startswith("E"))})


@dataclass(frozen=True, slots=True)
class Expectation:
    """The whole answer expected."""

    name: str
    """The name of the outcome: one of OUTCOMES, or the failing step of the set-up with its errno."""
    outcome: Outcome | None
    """None if the set-up is expected to fail."""
    reason: str
    sockets: Mapping[str, str]
    """`ok` or errno by role."""
    attach: tuple[tuple[str, str], ...]
    """Attempts in order, each with `ok` or errno; empty if an earlier step fails."""
    insert: Mapping[str, str]
    """`ok` or errno for `in` and for the target as `out`; empty if an earlier step fails."""
    rows: tuple[tuple[str, Rule], ...]
    """The deciding rows, each with its step; the last one has the `reason`."""

    def grounds(self, steps: Collection[str] = ()) -> tuple[Ground, ...]:
        """Return the rows as grounds: those of some steps, or all, with the deciding row first."""
        *others, last = self.rows
        chosen = [(step, rule) for step, rule in self.rows if step in steps]
        return grounds_of(chosen or [last, *others])


OUTCOME: Final = "outcome"
"""The step about the data; the others are named by `step_of`."""


def step_of(kind: str, of: str) -> str:
    """Name a step of the set-up: `socket in`, `attach sk_msg_verdict`, `insert out`."""
    return f"{kind} {of}"


def expected_outcome(case: Case, facts: KernelFacts) -> Expectation:
    """Look up the expectation of a redirect case on this kernel; KernelError if the tables do not go back that far."""
    params, version = case.params, facts.version
    made = {role: _answer("socket", {"kind": params[role]}, version) for role in _pairs(params)}
    sockets = {role: rule.outcome for role, rule in made.items()}
    rows = [(step_of("socket", role), rule) for role, rule in made.items()]
    attach: tuple[tuple[str, str], ...] = ()
    insert: dict[str, str] = {}
    name, refusal = _refusal("no-socket", list(made.values()))
    if refusal is None:
        tried = _attach(params, version)
        attach = tuple((kind, rule.outcome) for kind, rule in tried)
        rows += [(step_of("attach", kind), rule) for kind, rule in tried]
        name, refusal = _refusal("not-attached", [rule for _, rule in tried[-1:]])
    if refusal is None:
        inserted = _insert(params, attach[0][0] if params["layout"] == "parser" else attach[-1][0], version)
        insert = {role: rule.outcome for role, rule in inserted.items()}
        rows += [(step_of("insert", role), rule) for role, rule in inserted.items()]
        name, refusal = _refusal("not-inserted", list(inserted.values()))
    rule = refusal or _answer("redirect", params, version)
    name = name or rule.outcome
    deciding = [each for each in rows if each[1] is rule] or [(OUTCOME, rule)]
    rows = [*(each for each in rows if each[1] is not rule), *deciding]
    return Expectation(name, OUTCOMES.get(name), rule.because(version), sockets, attach, insert, tuple(rows))


def deciding(case: Case, facts: KernelFacts) -> tuple[tuple[str, Rule], ...]:
    """Return each step of a case with the row that decides it."""
    return expected_outcome(case, facts).rows


@cache
def table(name: str) -> RuleTable:
    """Load one of the tables; UsageError names the file and the wrong row."""
    outcomes = frozenset(OUTCOMES) if name == "redirect" else _RESULTS
    return RuleTable.load(HERE / f"promises-{name}.toml", universe=universe(name), outcomes=outcomes, families=FAMILIES)


def universe(name: str) -> Sequence[Mapping[str, str]]:
    """List all parameters that a table must decide."""
    universes: Mapping[str, Sequence[Mapping[str, str]]] = {
        "socket": [{"kind": kind} for kind in KINDS],
        "attach": [{"attach": program} for program in PROGRAMS[1:]],
        "insert": [{"kind": kind, "program": program} for kind in KINDS for program in PROGRAMS],
        "redirect": [case.params for case in redirect_cases()],
    }
    return universes[name]


def _answer(name: str, params: Mapping[str, str], version: Version) -> Rule:
    rule = table(name).find(params, version)
    if rule is None:
        described = ", ".join(f"{key} {value}" for key, value in params.items())
        raise KernelError(
            f"promises-{name}.toml says nothing of {described} on {version}",
            hint="the tables begin at 5.10; judge a newer kernel, or add a row",
        )
    return rule


def _refusal(step: str, rules: list[Rule]) -> tuple[str, Rule | None]:
    """Return name and row of the first answer that is not ok."""
    refusal = next((rule for rule in rules if rule.outcome != "ok"), None)
    return (f"{step}-{refusal.outcome}", refusal) if refusal else ("", None)


def _pairs(params: Mapping[str, str]) -> tuple[str, ...]:
    """List the pairs of sockets that are made, by the role of their first end."""
    return tuple(role for role in roles(params["layout"]) if not role.endswith("_peer"))


def _attach(params: Mapping[str, str], version: Version) -> list[tuple[str, Rule]]:
    """List the attach types tried: a verdict falls back to a stream verdict, which older kernels know."""
    if params["mode"].startswith("send-"):
        order = ["sk_msg_verdict"]
    elif params["layout"] == "parser":
        order = ["sk_skb_stream_parser", "sk_skb_stream_verdict"]
    else:
        order = ["sk_skb_verdict", "sk_skb_stream_verdict"]
    tried = []
    for attach in order:
        tried.append((attach, _answer("attach", {"attach": attach}, version)))
        if (tried[-1][1].outcome == "ok") != (params["layout"] == "parser"):
            break
    return tried


def _insert(params: Mapping[str, str], program: str, version: Version) -> dict[str, Rule]:
    """Look up the insertion of IN into the map with the program, and of the target into its map."""
    of_target = program if params["layout"] == "same_map" else "none"
    return {
        "in": _answer("insert", {"kind": params["in"], "program": program}, version),
        "out": _answer("insert", {"kind": params["out"], "program": of_target}, version),
    }
