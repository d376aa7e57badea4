# SPDX-License-Identifier: GPL-2.0-only
"""The listener cases and their expectations, without a kernel."""

from __future__ import annotations

from collections import Counter

from conformance.groups.listen.cases import LISTENERS, PROGRAMS, listen_cases
from conformance.judge import defects
from conformance.judge.needs import unmet
from conformance.model import Case, KernelFacts
from kernels.version import Version

NEW = KernelFacts(Version.parse("7.3.4"), {})
OLD = KernelFacts(Version.parse("5.10.262"), {})


def asked(facts: KernelFacts) -> list[Case]:
    """Return the cases that a kernel is asked."""
    return [case for case in listen_cases() if unmet(case, facts) is None]


def test_each_program_meets_each_state_of_the_listener_in_both_maps() -> None:
    """Each pair of program and listener state is asked with both map types and both IP versions."""
    found = Counter(
        (case.params["program"], case.params["listener"], case.params["map"], case.params["kind"])
        for case in listen_cases()
        if case.params["what"] == "child"
    )
    for program in PROGRAMS:
        for listener in LISTENERS:
            assert found[program, listener, "sockmap", "tcp4"]
            assert found[program, listener, "sockhash", "tcp6"]


def test_what_enrol_asks_is_not_asked_again() -> None:
    """The group enrol asks about data after accept(2) for a child of a listener in a map with a verdict."""
    wanted = {"what": "child", "program": "verdict", "child": "apart", "listener": "kept", "data": "late"}
    assert not [case.id for case in listen_cases() if wanted.items() <= case.params.items()]


def test_a_kernel_that_dies_is_asked_once_for_each_way() -> None:
    """Of the cases that kill the kernel, one for each defect is asked; a kernel without the defects is asked all."""
    deadly = {case.id for case in asked(NEW) if any(row.verdict for row in defects.deviations(case, NEW.version))}
    assert deadly == {row.case for row in defects.of_group("listen") if row.verdict}
    assert len(asked(OLD)) == len(listen_cases())
