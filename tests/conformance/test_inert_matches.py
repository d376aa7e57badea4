# SPDX-License-Identifier: GPL-2.0-only
"""Rows claim no more than cases show: nearly every value in a `match` decides a case on some known kernel.

A value that decides nothing is an untested claim. Rows copied from a recording are full of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from conformance.expect.rules import Params, Rule
from conformance.groups import GROUPS
from conformance.groups.kinds import FAMILIES
from conformance.groups.redirect import expectation
from conformance.judge import steps
from conformance.judge.needs import unmet
from kernels.version import Version
from tests.conformance.observations import facts

KERNELS = (
    *("5.10.262", "5.13.1", "5.15.180", "6.1.192", "6.4.1", "6.6.130", "6.12.43", "6.12.117", "6.18.15"),
    *("7.0", "7.3.4"),
)
SHARE = 0.02
"""The share of values that may be inert: a family includes kinds without a case."""
STEPWISE = [group.name for group in GROUPS.values() if group.judge is None]

Value = tuple[str, str, str]
"""Row, parameter and value."""


def stated(rules: Iterable[Rule]) -> set[Value]:
    """Return every value that some row matches, families expanded."""
    return {(rule.id, name, value) for rule in rules for name, values in rule.match.items() for value in values}


def deciding(decisions: Iterable[tuple[Rule, Params]]) -> set[Value]:
    """Return the values of the cases that a row decides."""
    return {(rule.id, name, params[name]) for rule, params in decisions for name in rule.match}


def inert(table: steps.StepTable, group: str) -> tuple[set[Value], set[Value]]:
    """Return the values that a group's rows match, and those of them that decide nothing on any kernel."""
    asked = [
        (case.params, Version.parse(version))
        for version in KERNELS
        for case in GROUPS[group].cases()
        if unmet(case, facts(version)) is None
    ]
    decisions = ((rule, params) for params, version in asked for rule in table.decided(params, version).values())
    every = stated(rule for rules in table.rules.values() for rule in rules)
    return every, every - deciding(decisions)


@pytest.mark.parametrize("group", STEPWISE)
def test_values_of_a_stepwise_group_decide_something(group: str) -> None:
    """Of every group, at most one value in fifty decides no case on any known kernel."""
    every, idle = inert(steps.table(group), group)
    assert len(idle) <= SHARE * len(every), sorted(idle)


@pytest.mark.parametrize("name", ["socket", "attach", "insert", "redirect"])
def test_values_of_the_redirect_tables_decide_something(name: str) -> None:
    """The same for the tables of the redirect group."""
    table = expectation.table(name)
    decisions = (
        (rule, params)
        for version in map(Version.parse, KERNELS)
        for params in expectation.universe(name)
        if (rule := table.find(params, version))
    )
    every = stated(table.rules)
    idle = every - deciding(decisions)
    assert len(idle) <= SHARE * len(every), sorted(idle)


def test_a_value_that_decides_nothing_is_found(tmp_path: Path) -> None:
    """A row that names a kind whose cases another row decides is caught with that kind, and with no other."""
    row = 'since = { mainline = "5.10" }\ncommit = ""\nreason = "planted"\nanswers = { second = "socket" }\n'
    exits = ["destroy_one", "held", "namespace"]
    planted = f'[[rule]]\nid = "planted"\nmatch.exit = {exits}\nmatch.data = ["redirected"]\n{row}'
    later = f'[[rule]]\nid = "later"\nmatch.exit = ["held"]\n{row}'
    path = tmp_path / "teardown.toml"
    path.write_text(f"{planted}{later}")
    table = steps.load([path], [case.params for case in GROUPS["teardown"].cases()], GROUPS["teardown"].families)
    assert inert(table, "teardown")[1] == {("planted", "exit", "held")}


def test_families_are_no_values() -> None:
    """The name of a family is not the value of a parameter, which it would hide."""
    for group in GROUPS:
        values = {value for case in GROUPS[group].cases() for value in case.params.values()}
        assert not values & GROUPS[group].families.keys(), group
        own = {name: members for name, members in GROUPS[group].families.items() if name not in FAMILIES}
        assert all(set(members) <= values for members in own.values()), group
