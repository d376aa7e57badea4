# SPDX-License-Identifier: GPL-2.0-only
"""The judge, on observations made by hand: correct ones pass, and every planted fault is named."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.groups.redirect import expectation, seen
from conformance.groups.redirect.cases import redirect_cases
from conformance.groups.redirect.outcomes import OUTCOMES
from conformance.judge.conclude import conclude
from conformance.judge.judge import judge
from conformance.model import Judgement, Verdict
from tests.conformance.observations import PHASES, case, each, facts, failed, flowed, merged
from vm.machine import CallStatus, Reply

TWO = ("in", "in_peer")
MSG = "sk_msg_verdict"
EGRESS = "sockmap-ingress-to-egress-udp4-unix_dgram"
LOCAL = "sockmap-ingress-to-local-udp4-unix_dgram"

Observation = dict[str, Any]


def judged(name: str, observation: object, version: str = "6.12.107") -> Judgement:
    """Judge an observation of a case by name."""
    return judge(case(name), facts(version), observation)  # type: ignore[arg-type]


RIGHT = [
    ("sockmap-send-to-local-tcp4-udp4", "6.12.107", "delivered", flowed("out", attach=MSG, messages=merged)),
    ("sockmap-send-to-egress-tcp4-tcp6", "6.12.107", "delivered", flowed("out_peer", attach=MSG, messages=merged)),
    (EGRESS, "6.12.107", "delivered", flowed("out_peer")),
    (LOCAL, "6.12.107", "delivered", flowed("out")),
    (LOCAL, "6.12.107", "delivered", flowed("out", messages=merged)),
    ("sockhash-send-to-local-udp4-tcp4", "6.12.107", "native", flowed("in_peer", attach=MSG, verdict=None)),
    (
        "sockmap-send-to-egress-tcp4-udp4",
        "6.12.107",
        "refused-EACCES",
        flowed(None, attach=MSG, send="EACCES", verdict="drop"),
    ),
    ("sockmap-ingress-to-local-udp4-vsock_stream", "6.12.107", "dropped", flowed(None, verdict="drop")),
    ("sockmap-send-to-local-tcp4-self", "6.12.107", "delivered", flowed("in", roles=TWO, attach=MSG)),
    ("sockmap-send-to-egress-tcp4-self", "6.12.107", "delivered", flowed("in_peer", roles=TWO, attach=MSG)),
    ("sockmap-ingress-to-egress-udp4-self", "6.12.107", "delivered", flowed("in_peer", roles=TWO)),
    ("sockmap-ingress-to-local-udp4-self", "6.12.107", "delivered", flowed("in", roles=TWO)),
    ("sockmap-send-to-local-tcp4-peer", "6.12.107", "delivered", flowed("in_peer", roles=TWO, attach=MSG)),
    ("sockmap-send-to-egress-tcp4-peer", "6.12.107", "delivered", flowed("in", roles=TWO, attach=MSG)),
    ("sockmap-ingress-to-local-udp4-peer", "6.12.107", "delivered", flowed("in_peer", roles=TWO)),
    ("sockmap-ingress-to-egress-udp4-peer", "6.12.107", "circulates", flowed("in", roles=TWO, laps=3)),
    (
        "sockmap-send-to-local-unix_dgram-tcp4",
        "5.10.223",
        "not-inserted-EOPNOTSUPP",
        failed(attach=[[MSG, "ok"]], insert={"in": "EOPNOTSUPP", "out": "ok"}),
    ),
    (
        "sockmap-ingress-to-egress-tcp4-vsock_seqpacket",
        "5.10.223",
        "no-socket-ESOCKTNOSUPPORT",
        failed(socket={"in": "ok", "out": "ESOCKTNOSUPPORT"}),
    ),
    (
        "sockmap-ingress-to-egress-tcp4-tcp4",
        "5.10.223",
        "delivered",
        flowed("out_peer") | {"attach": [["sk_skb_verdict", "EINVAL"], ["sk_skb_stream_verdict", "ok"]]},
    ),
    (
        "sockmap-ingress-to-local-tcp4-parser",
        "6.12.107",
        "delivered",
        flowed("out") | {"attach": [["sk_skb_stream_parser", "ok"], ["sk_skb_stream_verdict", "ok"]]},
    ),
]


@pytest.mark.parametrize(("name", "version", "outcome", "observation"), RIGHT, ids=lambda value: str(value)[:50])
def test_what_is_expected_passes(name: str, version: str, outcome: str, observation: Observation) -> None:
    """Each outcome, shown in full, passes and is named."""
    judgement = judged(name, observation, version)
    assert judgement.differences == ()
    assert (judgement.verdict, judgement.expected, judgement.observed) == (Verdict.PASS, outcome, outcome)
    assert judgement.reason


def test_every_outcome_is_distinguished_from_every_other() -> None:
    """The right observation for one case fails every other case with the same parameters and another expectation."""
    for name, version, outcome, observation in RIGHT:
        for each_case in redirect_cases():
            judgement = judge(each_case, facts(version), observation)
            if judgement.expected != outcome and judgement.verdict is Verdict.PASS:
                pytest.fail(f"{name} passes as {each_case.name}, which should be {judgement.expected}")


def burst(observation: Observation) -> Observation:
    """Return the last phase."""
    phase: Observation = observation["phases"][-1]
    return phase


def plant(change: Callable[[Observation], object]) -> Callable[[], Observation]:
    """Return a good egress observation whose burst is changed."""

    def planted() -> Observation:
        observation = flowed("out_peer")
        change(burst(observation))
        return observation

    return planted


def arrivals(change: Callable[[list[Any]], object], role: str = "out_peer") -> Callable[[], Observation]:
    """Return a good egress observation with another arrival of the burst on one socket."""
    return plant(lambda phase: change(phase["received"][role]))


SIZES = PHASES["burst"]
TOTAL = sum(SIZES)

FAULTS: dict[str, tuple[Callable[[], Observation], str]] = {
    "duplicate": (arrivals(lambda got: got.insert(2, [[1, 1500]])), "wanted bytes 1-1500 once on out_peer"),
    "duplicate is called so": (arrivals(lambda got: got.append([[0, 1]])), "duplicated"),
    "reorder": (arrivals(lambda got: got.insert(0, got.pop(3))), "reordered"),
    "lost message": (arrivals(lambda got: got.pop(4)), "wanted bytes 1567-2566 on out_peer, got them nowhere: lost"),
    "lost head": (
        arrivals(lambda got: got.__setitem__(1, [[101, 1400]])),
        "wanted bytes 1-100 on out_peer, got them nowhere: lost",
    ),
    "truncated": (
        arrivals(lambda got: got.__setitem__(1, [[1, 1000]])),
        "wanted bytes 1001-1500 on out_peer, got them nowhere: truncated",
    ),
    "everything lost": (arrivals(lambda got: got.clear()), f"wanted bytes 0-{TOTAL - 1} on out_peer, got them nowhere"),
    "boundaries merged": (
        arrivals(lambda got: got.__setitem__(slice(0, 2), [[[0, 1501]]])),
        "wanted 8 messages on out_peer with the boundaries sent, got 7",
    ),
    "boundaries split": (
        arrivals(lambda got: got.__setitem__(slice(1, 2), [[[1, 700]], [[701, 800]]])),
        "wanted 8 messages on out_peer with the boundaries sent, got 9",
    ),
    "corrupted": (
        arrivals(lambda got: got.__setitem__(1, [[1, 1000], "00ff", [1003, 498]])),
        "wanted only bytes that were sent on out_peer, got 00ff",
    ),
    "empty message": (arrivals(lambda got: got.append([])), "wanted no empty message on out_peer"),
    "end of stream": (arrivals(lambda got: got.append("eof"), "out"), "wanted out to stay open and without error"),
    "receive error": (arrivals(lambda got: got.append("!ECONNRESET")), "got ECONNRESET"),
    "copy on in": (arrivals(lambda got: got.append([[0, 1]]), "in"), "wanted nothing on in, got bytes 0-0: a stray"),
    "copy on in_peer": (
        arrivals(lambda got: got.append([[0, 1]]), "in_peer"),
        "wanted nothing on in_peer, got bytes 0-0: a stray",
    ),
    "copy on out": (arrivals(lambda got: got.append([[0, 1]]), "out"), "wanted nothing on out, got bytes 0-0: a stray"),
    "foreign bytes on out": (arrivals(lambda got: got.append(["beef"]), "out"), "were sent on out, got beef"),
    "misdelivered": (
        plant(lambda phase: phase["received"].update(out=each(SIZES), out_peer=[])),
        f"wanted nothing on out, got bytes 0-{TOTAL - 1} meant for out_peer: misdelivered",
    ),
    "partly misdelivered": (
        plant(lambda phase: phase["received"].update(out=[phase["received"]["out_peer"].pop(1)])),
        "wanted nothing on out, got bytes 1-1500 meant for out_peer: misdelivered",
    ),
    "send refused": (plant(lambda phase: phase["send"].__setitem__(1, "EPIPE")), "wanted send 2 of 8 to give 1500"),
    "short send": (plant(lambda phase: phase["send"].__setitem__(1, 1499)), "to give 1500, got 1499"),
    "missing run": (plant(lambda phase: phase["runs"].update({"pass": 7})), "run 8 times with verdict PASS, got 7"),
    "extra run": (plant(lambda phase: phase["runs"].update({"pass": 9})), "run 8 times with verdict PASS, got 9"),
    "run on too few bytes": (plant(lambda phase: phase["runs"].update(pass_bytes=1)), "bytes with verdict PASS, got 1"),
    "other verdict": (plant(lambda phase: phase["runs"].update(drop=1)), "run 0 times with verdict DROP, got 1"),
    "unsettled": (plant(lambda phase: phase.update(settled=False)), "wanted the kernel to process all data"),
    "error on out": (
        lambda: flowed("out_peer") | {"errors": dict.fromkeys(("in", "in_peer", "out_peer"), "ok") | {"out": "EPIPE"}},
        "wanted SO_ERROR of out to give ok, got EPIPE",
    ),
    "insertion refused": (
        lambda: failed(attach=[["sk_skb_verdict", "ok"]], insert={"in": "ok", "out": "EBUSY"}),
        "wanted inserting out to give ok, got EBUSY",
    ),
    "attach refused": (
        lambda: failed(attach=[["sk_skb_verdict", "EINVAL"], ["sk_skb_stream_verdict", "EPERM"]]),
        "wanted attaching to give sk_skb_verdict ok, got sk_skb_verdict EINVAL, sk_skb_stream_verdict EPERM",
    ),
    "attached by fallback": (
        lambda: flowed("out_peer") | {"attach": [["sk_skb_verdict", "EINVAL"], ["sk_skb_stream_verdict", "ok"]]},
        "wanted attaching to give sk_skb_verdict ok, got sk_skb_verdict EINVAL",
    ),
    "no socket": (
        lambda: failed(socket={"in": "ok", "out": "EAFNOSUPPORT"}),
        "wanted making the sockets of out to give ok, got EAFNOSUPPORT",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_and_is_named(fault: str) -> None:
    """Every fault of a redirect has its sentence, with the expected value first."""
    observation, sentence = FAULTS[fault]
    judgement = judged(EGRESS, observation())
    assert judgement.verdict is Verdict.FAIL
    assert any(sentence in difference for difference in judgement.differences), judgement.differences
    assert judgement.expected == "delivered"


def test_a_single_fault_gives_a_single_sentence() -> None:
    """Faults with one cause give one sentence."""
    for fault, (observation, _) in FAULTS.items():
        differences = judged(EGRESS, observation()).differences
        assert len(differences) == (2 if fault == "corrupted" else 1), (fault, differences)


@pytest.mark.parametrize("role", ["in", "in_peer", "out", "out_peer"])
def test_nothing_may_arrive_anywhere_of_what_was_dropped(role: str) -> None:
    """A dropped byte that turns up on any of the four sockets is a stray."""
    observation = flowed(None, verdict="drop")
    burst(observation)["received"][role] = [[[1, 1500]]]
    judgement = judged("sockmap-ingress-to-local-udp4-vsock_stream", observation)
    assert judgement.differences == (f"burst: wanted nothing on {role}, got bytes 1-1500: stray",)


@pytest.mark.parametrize(
    ("observation", "observed"),
    [
        (flowed("out"), "other"),
        (flowed("in", verdict=None), "native"),
        (flowed(None, verdict="drop"), "dropped"),
        (flowed(None, send="EACCES", verdict="drop", once=True), "refused-without-program"),
        (failed(attach=[["sk_skb_verdict", "ok"]], insert={"in": "ok", "out": "EBUSY"}), "not-inserted-EBUSY"),
        (failed(socket={"in": "EMFILE", "out": "ok"}), "no-socket-EMFILE"),
        (failed(attach=[["sk_skb_verdict", "EPERM"]]), "not-attached-EPERM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unexpected_outcome_has_a_name(observation: Observation, observed: str) -> None:
    """An unexpected outcome that other cases promise is called by its name, anything else `other`."""
    judgement = judged(EGRESS, observation)
    assert (judgement.verdict, judgement.observed) == (Verdict.FAIL, observed)


def test_local_delivery_may_merge_messages_but_never_split_one() -> None:
    """Queued messages are read as one; half a message is a fault."""
    observation = flowed("out")
    burst(observation)["received"]["out"][1:2] = [[[1, 700]], [[701, 800]]]
    assert any("wanted whole messages on out" in each for each in judged(LOCAL, observation).differences)


def test_a_stream_source_may_run_once_for_several_messages_but_not_more_often() -> None:
    """TCP may merge a burst into one skb, but not split it into more."""
    name = "sockmap-ingress-to-egress-tcp4-tcp4"
    observation = flowed("out_peer")
    for runs, verdict in ((1, Verdict.PASS), (8, Verdict.PASS), (9, Verdict.FAIL), (0, Verdict.FAIL)):
        burst(observation)["runs"]["pass"] = runs
        assert judged(name, observation).verdict is verdict, runs


def test_a_drop_is_for_one_message() -> None:
    """A kernel that refuses later messages without running the program shows a known defect, and no promise."""
    name, sticky = (
        "sockmap-send-to-egress-tcp4-udp4",
        flowed(None, attach=MSG, send="EACCES", verdict="drop", once=True),
    )

    judgement = judged(name, sticky)
    assert judgement.verdict is Verdict.FAIL
    assert "kilobyte: wanted the program to run 1 times with verdict DROP, got 0" in judgement.differences

    concluded = conclude(case(name), facts("6.12.107"), Reply(status=CallStatus.ANSWERED, value=sticky))
    assert (concluded.verdict, concluded.deviation) == (Verdict.XFAIL, "sticky-drop")
    mended = flowed(None, attach=MSG, send="EACCES", verdict="drop")
    assert (
        conclude(case(name), facts("6.12.107"), Reply(status=CallStatus.ANSWERED, value=mended)).verdict
        is Verdict.XPASS
    )
    third = flowed(None, attach=MSG, send="EPIPE", verdict="drop")
    assert (
        conclude(case(name), facts("6.12.107"), Reply(status=CallStatus.ANSWERED, value=third)).verdict is Verdict.FAIL
    )


def test_a_wrong_row_makes_the_judge_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables decide: with one outcome changed, a good kernel is reported."""
    for file in expectation.HERE.glob("*.toml"):
        (tmp_path / file.name).write_text(file.read_text())
    table = tmp_path / "promises-redirect.toml"
    head, row, tail = table.read_text().partition('id = "skb-egress"\n')
    table.write_text(head + row + tail.replace('outcome = "delivered"', 'outcome = "dropped"', 1))
    monkeypatch.setattr(expectation, "HERE", tmp_path)
    expectation.table.cache_clear()
    try:
        judgement = judged(EGRESS, flowed("out_peer"))
    finally:
        expectation.table.cache_clear()
    assert (judgement.verdict, judgement.expected, judgement.observed) == (Verdict.FAIL, "dropped", "delivered")


def test_a_newer_kernel_is_judged_with_a_note() -> None:
    """The reason of every judgement says by which kernel it was judged."""
    assert "99.0 is newer than" in judged(EGRESS, flowed("out_peer"), "99.0").reason
    assert "newer" not in judged(EGRESS, flowed("out_peer")).reason


def test_a_kernel_older_than_the_tables_is_infra() -> None:
    """Nothing is expected of 4.13, so nothing can pass."""
    judgement = judged(EGRESS, flowed("out_peer"), "4.13")
    assert judgement.verdict is Verdict.INFRA
    assert "begin at" in judgement.reason


def broken() -> Iterator[tuple[str, object]]:
    """Yield observations that are none."""
    good = flowed("out_peer")
    yield "none", None
    yield "a list", []
    yield "empty", {}
    for key in good:
        yield f"no {key}", {name: value for name, value in good.items() if name != key}
        yield f"odd {key}", good | {key: 7}
    yield "no phases", good | {"phases": []}
    yield "missing phase", good | {"phases": good["phases"][:2]}
    yield "phases after a failure", good | {"insert": {"in": "ok", "out": "EBUSY"}}
    yield "nothing attached", good | {"attach": []}
    yield "extra key", good | {"opinion": "fine"}
    for key, value in {
        "sent": [],
        "send": [1],
        "runs": {"pass": 8},
        "received": {"in": []},
        "settled": "yes",
        "name": "other",
    }.items():
        yield f"phase with odd {key}", good | {"phases": [*good["phases"][:2], burst(good) | {key: value}]}
    for number, message in enumerate(([[0]], [[0, 0]], [[0, 99999]], [[-1, 5]], [["0", 5]], 5, [7], [[True, 1]])):
        received = burst(good)["received"] | {"out": [message]}
        yield f"odd message {number}", good | {"phases": [*good["phases"][:2], burst(good) | {"received": received}]}
    yield "errors of three", good | {"errors": dict.fromkeys(("in", "in_peer", "out"), "ok")}


@pytest.mark.parametrize(
    ("what", "observation"), list(broken()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_malformed_observation_is_infra_and_never_passes(what: str, observation: object) -> None:
    """The judge never raises, and an unreadable observation never passes."""
    judgement = judged(EGRESS, observation)
    assert judgement.verdict is Verdict.INFRA
    assert judgement.differences[0].startswith("the observation is malformed")


def test_a_phase_that_never_settled_may_be_the_last() -> None:
    """A scenario gives up after a phase that did not come to rest; that is a fault of the kernel, not of the run."""
    observation = flowed("out_peer")
    observation["phases"] = observation["phases"][:1]
    observation["phases"][0]["settled"] = False
    judgement = judged(EGRESS, observation)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.differences == (
        "byte: wanted the kernel to process all data, but it was still working at the deadline",
    )


def test_the_judge_knows_the_phases_and_laps_of_the_scenario() -> None:
    """The scenario runs in the guest and cannot share constants with the host; this holds the two together."""
    source = ast.parse((expectation.HERE / "guest" / "scenario.py").read_text())
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if node.targets[0].id in ("PHASES", "LAPS")
    }
    assert tuple(constants["PHASES"]) == seen.PHASES
    assert constants["LAPS"] + 1 == OUTCOMES["circulates"].laps


def test_judging_is_fast() -> None:
    """Five kernels are 3680 judgements: a millisecond for each is the limit."""
    observation = flowed("out_peer")
    judged(EGRESS, observation)
    begin = time.process_time()
    for _ in range(200):
        judged(EGRESS, observation)
    assert (time.process_time() - begin) / 200 < 0.001
