# SPDX-License-Identifier: GPL-2.0-only
"""The leak cases and their expectations, without a kernel."""

from __future__ import annotations

import pytest

from common.errors import UsageError
from conformance.cli import parse
from conformance.groups.leaks.cases import FEWEST_ROUNDS, ROUNDS, leak_cases, of_length
from conformance.judge.judge import judge
from conformance.model import KernelFacts, Verdict
from kernels.version import Version
from tests.conformance.expectations import answers

BALANCED = {"insert": "ok", "way": "ok", "kept": "balanced", "memory": "balanced"}


def expected(name: str, version: str) -> dict[str, str]:
    """Return the steps a case should have on a kernel."""
    (case,) = (each for each in leak_cases() if each.name == name)
    return answers(case, version)


@pytest.mark.parametrize(
    ("name", "version", "steps"),
    [
        ("close-tcp4", "5.10.262", BALANCED),
        ("destroy-vsock_stream", "7.3.4", BALANCED),
        ("link-destroyed-udp6", "6.12.117", BALANCED),
        ("link-destroyed-udp6", "6.1.192", {"insert": "ok", "way": "EINVAL"}),
        ("link-destroyed-unix_dgram", "6.1.192", {"insert": "ok", "way": "EINVAL"}),
        ("link-destroyed-vsock_stream", "6.1.192", {"insert": "EOPNOTSUPP"}),
        ("close-unix_stream", "5.10.262", {"insert": "EOPNOTSUPP"}),
        ("link-destroyed-unix_stream", "5.10.262", {"insert": "EOPNOTSUPP"}),
    ],
)
def test_nothing_is_left_wherever_there_is_such_a_way(name: str, version: str, steps: dict[str, str]) -> None:
    """A kernel that takes the socket and knows the way leaves nothing of it; another says no and is asked no more."""
    assert expected(name, version) == steps


@pytest.mark.parametrize("step", ["kept", "memory"])
def test_a_leak_fails_its_case_and_is_named(step: str) -> None:
    """The report has the counters' finding unchanged."""
    case = leak_cases()[0]
    facts = KernelFacts(Version.parse("6.12.117"), {})

    judgement = judge(case, facts, {"steps": BALANCED | {step: "16 slab kmalloc-1k"}})

    assert judgement.verdict is Verdict.FAIL
    assert judgement.differences == (f"wanted {step} to give balanced, got 16 slab kmalloc-1k",)


def test_more_rounds_have_more_time() -> None:
    """The run says how many rounds; the name stays."""
    case = leak_cases()[0]
    long = of_length(case, 1000)

    assert (long.id, long.params["rounds"]) == (case.id, "1000")
    assert long.deadline > case.deadline
    assert case.params["rounds"] == str(ROUNDS)


def test_too_few_rounds_are_refused() -> None:
    """With too few rounds leaks cannot be distinguished from noise."""
    with pytest.raises(UsageError, match=f"--rounds: must be at least {FEWEST_ROUNDS}, not 7"):
        parse(["run", "--rounds", "7"])
