# SPDX-License-Identifier: GPL-2.0-only
"""The enrolment and steering cases: the tables decide each, and a kernel that would hang is not asked."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from conformance.groups import GROUPS
from conformance.judge import steps
from conformance.judge.judge import judge
from conformance.judge.needs import unmet
from conformance.model import Case, KernelFacts, Verdict
from kernels.version import Version
from tests.conformance.expectations import answers, deciding, shown

KERNELS = ("5.10.262", "6.1.192", "6.12.117", "6.18.15", "6.18.44", "7.3.4")
ALL = [case for group in ("enrol", "steer") for case in GROUPS[group].cases()]


def find(identity: str) -> Case:
    """Return a case by its id."""
    return next(case for case in ALL if case.id == identity)


def expected(identity: str, version: str) -> dict[str, str]:
    """Return what is expected of a case, step by step."""
    return answers(find(identity), version)


def facts(version: str, **config: str) -> KernelFacts:
    """Return the facts of a kernel."""
    return KernelFacts(Version.parse(version), config)


def test_cases_by_way() -> None:
    """A removed case is noticed."""
    ways = Counter(case.params.get("way", case.group) for case in ALL)
    assert ways == {
        "own": 48,
        "scm": 64,
        "pidfd": 204,
        "pidfd-refused": 7,
        "sock_ops": 128,
        "iterator": 116,
        "steer": 68,
    }
    assert len({case.id for case in ALL}) == len(ALL)


@pytest.mark.parametrize("version", KERNELS)
def test_every_case_has_expectations(version: str) -> None:
    """The tables decide each case on every kernel."""
    assert not [case.id for case in ALL if not expected(case.id, version)]


@pytest.mark.parametrize("group", ["enrol", "steer"])
def test_every_row_decides_something_on_some_kernel(group: str) -> None:
    """Every row decides a case on some kernel."""
    rules = itertools.chain.from_iterable(steps.table(group).rules.values())
    assert {rule.id for rule in rules} == deciding(group, KERNELS)


@pytest.mark.parametrize(
    ("version", "answer"),
    [("5.10.262", "data: owner"), ("6.1.192", "data: nowhere"), ("7.3.4", "data: nowhere")],
)
def test_what_a_listener_in_a_map_accepts(version: str, answer: str) -> None:
    """A socket accepted from a listener in a map with a verdict receives; a loss since 6.0 is a known defect."""
    case = find("enrol/pidfd-listener-sockmap-tcp4-source")

    assert answers(case, version)["receive"] == "data: owner"
    assert shown(case, version)["receive"] == answer


@pytest.mark.parametrize(
    ("version", "answer"),
    [("6.1.192", "EINVAL"), ("6.12.117", "EINVAL"), ("6.18.15", "ENOENT")],
)
def test_pidfd_of_a_thread(version: str, answer: str) -> None:
    """A thread that leads no group needs PIDFD_THREAD, which is known since 6.9."""
    seen = expected("enrol/pidfd-thread-sockmap-tcp4-target", version)
    assert seen["open-without-flag"] == answer
    assert ("insert" in seen) == (version != "6.1.192")


@pytest.mark.parametrize(
    ("version", "hangs"),
    [
        ("5.10.262", False),
        ("5.15.100", True),
        ("6.1.174", True),
        ("6.1.175", False),
        ("6.12.90", True),
        ("6.12.117", False),
        ("6.18.15", True),
        ("6.18.44", False),
        ("7.3.4", False),
    ],
)
def test_a_kernel_that_would_hang_is_not_asked(version: str, *, hangs: bool) -> None:
    """iter/unix deadlocks kernels without 4d328dd69538, also if the configuration is unknown."""
    reason = unmet(find("enrol/iterator-all-iter_unix-sockmap-unix_dgram-target"), facts(version))
    assert bool(reason) == hangs
    assert not hangs or "deadlock" in str(reason)
    assert unmet(find("enrol/iterator-all-iter_udp-sockmap-udp4-target"), facts(version)) is None


def test_a_kernel_without_yama_is_not_asked_about_it() -> None:
    """A case that needs a CONFIG symbol is skipped if the symbol is known to be missing."""
    config = {"BPF_SYSCALL": "y", "INET": "y"}
    assert "SECURITY_YAMA" in str(unmet(find("enrol/pidfd-refused-yama"), facts("6.12", **config)))
    assert unmet(find("enrol/pidfd-refused-yama"), facts("6.12", **config, SECURITY_YAMA="y")) is None


@pytest.mark.parametrize("version", ["5.10.262", "7.3.4"])
def test_every_step_is_judged(version: str) -> None:
    """A case fails if any one answer is wrong or missing."""
    known = facts(version)
    for case in ALL[::13]:
        right = expected(case.id, version)
        assert judge(case, known, {"steps": right}).verdict is Verdict.PASS
        for step in right:
            assert judge(case, known, {"steps": right | {step: "otherwise"}}).verdict is Verdict.FAIL
            rest = {name: answer for name, answer in right.items() if name != step}
            assert judge(case, known, {"steps": rest}).verdict is not Verdict.PASS


def test_no_such_socket_is_a_skip() -> None:
    """A case is a skip if the guest has no such socket."""
    case = find("enrol/own-sockmap-vsock_stream-target-descriptor")
    assert judge(case, facts("6.12"), {"steps": {"available": "ENODEV"}}).verdict is Verdict.SKIP
