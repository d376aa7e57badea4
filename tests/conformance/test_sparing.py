# SPDX-License-Identifier: GPL-2.0-only
"""On a broken kernel the first cases with a symptom are tried twice, and the others once."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from conformance.cli import parse
from conformance.groups import GROUPS
from conformance.groups.redirect.cases import redirect_cases
from conformance.guestlib import grace
from conformance.model import Case, Judgement, Verdict
from conformance.report.events import decode, encode
from conformance.report.formats import FORMATS
from conformance.report.text import report_lines
from conformance.run.case_record import case_event
from conformance.run.options import repetition
from conformance.run.retries import Repetition
from conformance.run.sparing import CONFIRMED, Confirmations
from conformance.run.try_case import examine
from tests.conformance.observations import flowed
from tests.conformance.pools import PANICKED, SLUG, ScriptedPool
from tests.conformance.report_runs import KERNEL_6_12, finished
from vm.machine import NO_EVIDENCE, CallStatus, Evidence, Reply

SPARING = Repetition(sparing=True)
CASES = [
    case
    for case in redirect_cases()
    if case.params["mode"] == "ingress-to-egress"
    and case.params["layout"] == "plain"
    and case.params["in"] == "udp4"
    and not case.params["out"].startswith("vsock")
]
GOOD = flowed("out_peer")


def lossy(phase: int = 2) -> dict[str, Any]:
    """Return the observation of a lost first message."""
    seen = copy.deepcopy(GOOD)
    del seen["phases"][phase]["received"]["out_peer"][0]
    return seen


def late() -> dict[str, Any]:
    """Return the observation of a hasty try in which data arrives after its phase."""
    seen = lossy(0)
    seen["phases"][1]["received"]["out_peer"].insert(0, ["2a"])
    return seen


class FakeKernel(ScriptedPool):
    """A kernel that answers by `behave`, which gets the case and whether the try is hasty."""

    def __init__(self, behave: Callable[[Case, bool], dict[str, Any] | Reply], cut: int = 1) -> None:
        super().__init__()
        self._behave, self._cut = behave, cut
        self.messages: list[str] = []

    def ask(self, slug: str, case: Case, evidence: Evidence = NO_EVIDENCE) -> Reply:
        """Answer in the form of the scenario that is called."""
        hasty = grace.SCENARIO in case.params
        self.history.append("hasty" if hasty else "ask")
        found = self._behave(case, hasty)
        if isinstance(found, Reply):
            return found
        lost = found != GOOD
        return Reply(CallStatus.ANSWERED, {"observation": found, "cut": self._cut * lost} if hasty else found)


def judged(kernel: FakeKernel, how: Repetition = SPARING, cases: list[Case] | None = None) -> list[dict[str, Any]]:
    """Judge every case on a kernel."""
    return [examine(kernel, SLUG, case, how=how)[1] for case in cases or CASES]


def test_the_first_are_confirmed_and_the_others_believed() -> None:
    """Three cases get another try in a fresh clone, the others one hasty try each; all fail, with the reason."""
    kernel = FakeKernel(lambda case, hasty: lossy(len(case.name) % 3))
    records = judged(kernel)

    assert len(records) == len(CASES) > CONFIRMED + 5
    assert {record["verdict"] for record in records} == {"fail"}
    assert kernel.history == ["ask", "close", "ask"] * CONFIRMED + ["hasty"] * (len(CASES) - CONFIRMED)
    confirmed = [record["id"] for record in records[:CONFIRMED]]
    for record in records[:CONFIRMED]:
        assert [each["fresh"] for each in record["tries"]] == [False, True]
        assert (record["hasty"], record["confirmed_by"]) == (False, [])
    for record in records[CONFIRMED:]:
        assert (record["hasty"], record["confirmed_by"], record["tries"]) == (True, confirmed, [])
        assert record["params"].keys() == CASES[0].params.keys()
    assert not any(record["flaky"] for record in records)


def test_what_passes_is_not_touched() -> None:
    """A hurried case that loses nothing passes at its first try."""
    kernel = FakeKernel(lambda case, hasty: GOOD if "unix" in case.name else lossy())
    records = judged(kernel)

    counts = Counter(record["verdict"] for record in records)
    assert counts == {
        "pass": sum("unix" in case.name for case in CASES),
        "fail": sum("unix" not in case.name for case in CASES),
    }
    assert all(record["tries"] == [] and not record["hasty"] for record in records if record["verdict"] == "pass")


def test_two_faults_are_both_confirmed() -> None:
    """A misdelivery is not taken for a loss: each symptom has its own confirming cases, and is named."""

    def behave(case: Case, hasty: bool) -> dict[str, Any]:
        return flowed("in_peer") if case.params["map"] == "sockhash" else lossy()

    kernel = FakeKernel(behave, cut=0)
    records = judged(kernel)

    for map_ in ("sockmap", "sockhash"):
        of_map = [record for record in records if record["params"]["map"] == map_]
        assert [bool(record["confirmed_by"]) for record in of_map] == [False] * CONFIRMED + [True] * (
            len(of_map) - CONFIRMED
        )
        assert all(case.startswith(f"redirect/{map_}") for record in of_map for case in record["confirmed_by"])
        word = "misdelivered" if map_ == "sockhash" else "lost"
        assert all(any(word in each for each in record["differences"]) for record in of_map)


def test_what_is_late_is_not_lost() -> None:
    """A hasty try mistakes late data for another fault, so there is a try with the full grace, which stands."""
    slow = CASES[-1]
    kernel = FakeKernel(
        lambda case, hasty: lossy() if case != slow and slow.id != case.id else late() if hasty else GOOD
    )
    record = judged(kernel)[-1]

    assert (record["verdict"], record["flaky"], record["hasty"]) == ("pass", False, False)
    assert [(each["verdict"], each["fresh"], each["hasty"]) for each in record["tries"]] == [
        ("fail", False, True),
        ("pass", True, False),
    ]
    assert kernel.history[-3:] == ["hasty", "close", "ask"]


def test_another_failure_is_confirmed_after_all() -> None:
    """A case that fails differently also with the full grace is tried twice, like the first cases."""
    odd = CASES[-1]
    kernel = FakeKernel(lambda case, hasty: flowed("in_peer") if case.id == odd.id else lossy())
    record = judged(kernel)[-1]

    assert (record["verdict"], record["hasty"], record["confirmed_by"]) == ("fail", False, [])
    assert [(each["fresh"], each["hasty"]) for each in record["tries"]] == [(False, True), (True, False), (True, False)]


def test_a_flake_stays_a_flake() -> None:
    """A hasty try that cut no wait short counts: passing in a fresh clone then makes it flaky."""
    odd, seen = CASES[-1], []

    def behave(case: Case, hasty: bool) -> dict[str, Any]:
        if case.id != odd.id:
            return lossy()
        seen.append(hasty)
        return flowed("in_peer") if hasty else GOOD

    record = judged(FakeKernel(behave, cut=0))[-1]

    assert seen == [True, False]
    assert (record["verdict"], record["flaky"]) == ("fail", True)


def test_what_did_not_repeat_confirms_nothing() -> None:
    """A loss that a fresh clone does not show confirms nothing."""
    asked: Counter[str] = Counter()

    def behave(case: Case, hasty: bool) -> dict[str, Any]:
        asked[case.id] += 1
        assert not hasty
        return lossy() if asked[case.id] == 1 else GOOD

    records = judged(FakeKernel(behave))

    assert all(record["flaky"] and not record["confirmed_by"] for record in records)
    assert set(asked.values()) == {2}


HUNG = Reply(CallStatus.OVERRAN, error="wchan: 0\nstack: [<0>] lock_sock_nested+0x1/0x2", log_complete=False)


@pytest.mark.parametrize(
    ("verdict", "usual", "other"),
    [
        ("panic", PANICKED, replace(PANICKED, console="Kernel panic - not syncing: Fatal exception")),
        ("hang", HUNG, replace(HUNG, error="wchan: 0\nstack: [<0>] sk_psock_stop+0x1/0x2")),
    ],
)
def test_what_a_kernel_dies_of_is_looked_at(verdict: str, usual: Reply, other: Reply) -> None:
    """A kernel that always dies in one place costs one clone per case; a death in another place is tried again."""
    last = CASES[-1]
    kernel = FakeKernel(lambda case, hasty: other if case.id == last.id else usual)
    records = judged(kernel)

    assert {record["verdict"] for record in records} == {verdict}
    assert [len(record["tries"]) for record in records] == [2] * CONFIRMED + [0] * (len(CASES) - CONFIRMED - 1) + [2]
    assert "hasty" not in kernel.history


def test_only_what_showed_twice_is_confirmed() -> None:
    """Two tries that fail differently confirm nothing."""
    asked: Counter[str] = Counter()

    def behave(case: Case, hasty: bool) -> dict[str, Any]:
        asked[case.id] += 1
        seen = lossy()
        if asked[case.id] == 1 or hasty:
            seen["phases"][0]["received"]["out"] = [["2a"]]
        return seen

    records = judged(FakeKernel(behave))

    assert not any(record["confirmed_by"] for record in records[:CONFIRMED])
    assert [each["hasty"] for each in records[CONFIRMED]["tries"]] == [True, False]


@pytest.mark.parametrize("kernels", [1, 2])
def test_each_kernel_for_itself(kernels: int) -> None:
    """A symptom confirmed on one kernel is not confirmed on another."""
    kernel = FakeKernel(lambda case, hasty: lossy())
    records = [examine(kernel, f"kernel-{number}", CASES[0], how=SPARING)[1] for number in range(kernels)]
    records += [examine(kernel, "kernel-0", case, how=SPARING)[1] for case in CASES[1:5]]

    assert sum(len(record["tries"]) for record in records) == 2 * (CONFIRMED + kernels - 1)


def test_another_path_is_confirmed_again() -> None:
    """Another mode is another path through the kernel."""
    other = next(case for case in redirect_cases() if case.name == "sockmap-ingress-to-local-udp4-unix_dgram")

    def behave(case: Case, hasty: bool) -> dict[str, Any]:
        seen = lossy()
        if case.params["mode"] == "ingress-to-local":
            for phase in seen["phases"]:
                phase["received"]["out"] = phase["received"].pop("out_peer")
                phase["received"]["out_peer"] = []
        return seen

    record = judged(FakeKernel(behave), cases=[*CASES, other])[-1]

    assert record["verdict"] == "fail"
    assert [each["hasty"] for each in record["tries"]] == [True, False, False]


@pytest.mark.parametrize(
    "value", [None, 7, {"observation": GOOD}, {"observation": GOOD, "cut": 0, "more": 1}, {"cut": 0}]
)
def test_a_guest_that_answers_otherwise_passes_nothing(value: Any) -> None:
    """A malformed answer to a hasty request is never a pass."""

    def behave(case: Case, hasty: bool) -> dict[str, Any] | Reply:
        return Reply(CallStatus.ANSWERED, value) if hasty else lossy()

    assert judged(FakeKernel(behave))[-1]["verdict"] == "infra"


@pytest.mark.parametrize("cut", [True, "0", None, [], -1])
def test_a_guest_that_counts_strangely_gets_another_try(cut: Any) -> None:
    """Only a plain zero says that nothing was cut short."""
    kernel = FakeKernel(lambda case, hasty: lossy() if case.id != CASES[-1].id else flowed("in_peer"))
    kernel.ask = lambda slug, case, evidence=NO_EVIDENCE: (  # type: ignore[method-assign]
        Reply(
            CallStatus.ANSWERED, {"observation": flowed("in_peer") if case.id == CASES[-1].id else lossy(), "cut": cut}
        )
        if grace.SCENARIO in case.params
        else Reply(CallStatus.ANSWERED, lossy())
    )
    assert judged(kernel)[-1]["tries"][0]["hasty"]


@pytest.mark.parametrize(
    "arguments", [["--tries", "2"], ["--tries", "5"], ["--repeat", "1"], ["--isolation", "case"], ["--until-fail"]]
)
def test_what_was_asked_of_every_case_is_done(arguments: list[str]) -> None:
    """With --tries, --repeat or --isolation case no try is spared."""
    assert repetition(parse(["run"])) == Repetition(sparing=True)
    how = repetition(parse(["run", *arguments]))
    assert not how.sparing

    if how.tries == 5:
        kernel = FakeKernel(lambda case, hasty: lossy())
        records = judged(kernel, how)
        assert {len(record["tries"]) for record in records} == {5}
        assert "hasty" not in kernel.history


def test_the_report_says_so() -> None:
    """The log has the confirming cases, and the report counts the cases that were not tried again."""
    kernel = FakeKernel(lambda case, hasty: lossy())
    events = [case_event(record, "", {SLUG: "debian:6.12"}, "./conform run") for record in judged(kernel)]
    assert [decode(encode(event)) for event in events] == events

    run = finished((KERNEL_6_12, events), code=1)
    text = " ".join("\n".join(report_lines(run)).split())

    assert run.counts() == {Verdict.FAIL: len(CASES)}
    believed = len(CASES) - CONFIRMED
    assert (
        f"{believed} of {len(CASES)} cases with this failure got only one try, {believed} of them with a"
        f" short grace: {CONFIRMED} cases had confirmed it in a fresh clone, e.g. {CASES[0].id}" in text
    )
    markdown = FORMATS["markdown"].render(run).splitlines()
    at = next(number for number, line in enumerate(markdown) if line.startswith("- observed "))
    assert markdown[at + 1].startswith("  - ")  # what was wanted instead belongs to what was observed
    assert any(line.startswith(f"- tries {believed} of ") for line in markdown[at + 1 :])


@pytest.mark.parametrize("group", GROUPS)
def test_a_failure_of_any_case_can_be_confirmed(group: str) -> None:
    """A case that fails is recorded and found again, whatever parameters its group has."""
    for case in GROUPS[group].cases():
        confirmations = Confirmations()
        failed = Judgement(Verdict.FAIL, "step right", "step wrong", "", differences=("step: right, and not wrong",))
        confirmations.confirm(SLUG, case, failed, failed)
        assert confirmations.of(SLUG, case, failed) == ()
