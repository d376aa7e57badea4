# SPDX-License-Identifier: GPL-2.0-only
"""The attachment and update-from-BPF cases: host and guest agree, and the tables decide each."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from conformance.groups import GROUPS
from conformance.groups.attach import cases as attach
from conformance.groups.attach.guest import effect as attach_effect
from conformance.groups.attach.guest import scenario
from conformance.groups.update_from_bpf import cases as update_from_bpf
from conformance.groups.update_from_bpf.guest import scenario as update_scenario
from conformance.guestlib import fixture
from conformance.judge import steps
from conformance.judge.needs import unmet
from conformance.model import Case, KernelFacts, Verdict
from kernels.version import Version
from tests.conformance.expectations import answers, deciding, versioned, without_commit

KERNELS = ("5.10.262", "6.1.192", "6.12.117", "6.18.15", "6.18.44", "7.3.4")
ALL = [case for group in ("attach", "update_from_bpf") for case in GROUPS[group].cases()]


def find(identity: str) -> Case:
    """Return a case by its id."""
    return next(case for case in ALL if case.id == identity)


def test_cases_by_question() -> None:
    """A removed case is noticed."""
    assert Counter(case.params["question"] for case in ALL) == {
        "types": 102,
        "pair": 128,
        "by_hand": 8,
        "targets": 28,
        "parser": 22,
        **dict.fromkeys(attach.LINKS, 8),
        "conflict": 96,
        "frozen": 140,
        "leave": 84,
        "map": 102,
        "helpers": 16,
    }
    assert len({case.id for case in ALL}) == len(ALL)


def test_the_guest_knows_what_is_asked_for() -> None:
    """The lists on both sides are the same."""
    assert set(attach.TYPES.values()) == set(fixture.TYPES)
    assert set(attach.WRONG_TARGETS) == set(scenario._TARGETS)
    assert set(attach.PARSERS) == {*scenario._PROGRAMS, "tail_call", "subprogram"}
    assert set(attach.SETS) == set(attach_effect.SETS)
    assert set(update_from_bpf.TOPICS) == set(update_scenario._TOPICS)


@pytest.mark.parametrize("version", KERNELS)
def test_every_case_has_expectations(version: str) -> None:
    """The tables decide each case on every kernel."""
    assert not [case.id for case in ALL if not answers(case, version)]


@pytest.mark.parametrize("group", ["attach", "update_from_bpf"])
def test_every_row_decides_something_on_some_kernel(group: str) -> None:
    """Every row decides a case on some kernel that was run."""
    rules = itertools.chain.from_iterable(steps.table(group).rules.values())
    assert {rule.id for rule in rules if rule.outcome != steps.ABSENT} == deciding(group, KERNELS)


def test_what_depends_on_the_version_cites_a_commit_with_its_subject() -> None:
    """A version-dependent row without a commit cannot be checked."""
    rows = [*versioned("attach"), *versioned("update_from_bpf")]
    assert len(rows) > 100
    assert without_commit(rows) == []


@pytest.mark.parametrize(
    ("identity", "step", "changes"),
    [
        ("update_from_bpf/sockmap-sched_cls", "update with its own socket", "5.10 ok, 7.2.13 ok, 7.3 map:EINVAL"),
        ("update_from_bpf/sockhash-flow_dissector", "delete", "7.2.13 ok, 7.3 map:EINVAL"),
        ("update_from_bpf/sockhash-kprobe", "delete", "5.10 map:EINVAL, 7.3 map:EINVAL"),
        ("update_from_bpf/sockmap-sock_ops", "update helper", "5.10 ok, 7.3 ok"),
        ("update_from_bpf/sockmap-iter_unix", "delete", "5.14 -, 5.15 ok, 7.3 ok"),
        ("update_from_bpf/sockmap-sk_reuseport", "update with its own socket", "5.13 context:EACCES, 5.14 ok, 7.3 ok"),
        ("update_from_bpf/helpers-sk_skb-system", "get_current_comm", "6.15 helper:EINVAL, 6.16 ok"),
        ("attach/types-sockmap-sk_skb", "attach sk_skb_verdict", "5.12 EINVAL, 5.13 ok"),
        ("attach/types-sockmap-sk_skb", "link sk_skb_verdict", "6.9.9 EINVAL, 6.10 ok"),
        ("attach/pair-sockmap-stream-verdict-hand-hand", "second", "5.12 EINVAL, 5.13 EBUSY, 7.3 EBUSY"),
        ("attach/pair-sockmap-msg-msg-link-hand", "second", "6.9.9 ok, 6.10 EBUSY"),
        ("attach/hand-sockhash-parser", "replaced: holds", "5.17 EINVAL, 5.18 second"),
        ("attach/parser-sockmap-change_tail", "attach", "7.1.5 ok, 7.2 EINVAL"),
        ("attach/parser-sockmap-change_tail", "holds", "6.9.9 -, 6.10 it, 7.2 first"),
        ("attach/parser-sockmap-write", "attach", "7.1.5 ok, 7.2 ok"),
        ("attach/link-detach-sockmap-msg", "detached: update", "6.9.9 -, 6.10 ENOLINK"),
        (
            "attach/conflict-sockmap-sockhash-udp4-none",
            "then parser_stream_verdict",
            "6.1.192 ok, 6.12.16 ok, 6.12.17 EOPNOTSUPP, 6.13.4 ok, 6.13.5 EOPNOTSUPP",
        ),
        ("attach/conflict-sockmap-sockhash-unix_dgram-none", "insert", "5.14 EOPNOTSUPP, 5.15 ok"),
        ("attach/conflict-sockmap-sockhash-udp4-msg", "then msg", "5.12 ok, 5.13 EBUSY"),
        ("attach/conflict-sockmap-sockhash-tcp4-parser", "then parser", "5.10 ok, 5.15.7 ok, 5.15.8 EBUSY, 5.16 EBUSY"),
        ("attach/frozen-sockmap-vsock_stream-verdict-replace", "changed: data", "6.3 -, 6.4 first"),
        ("attach/leave-sockmap-tcp4-stream-with", "insert with another", "5.15.7 EBUSY, 5.15.8 ok, 5.16 ok"),
    ],
)
def test_when_an_answer_changes(identity: str, step: str, changes: str) -> None:
    """The version at which a row begins is the first one with its commit, stable branches included."""
    for change in changes.split(", "):
        version, answer = change.split(" ")
        assert (version, answers(find(identity), version).get(step, "-")) == (version, answer)


def test_what_root_may_not_load_is_skipped() -> None:
    """A kernel under lockdown has given no answer."""
    case = find("attach/types-sockmap-fentry")
    facts = KernelFacts(Version.parse("6.12.117"), {})

    judgement = steps.judge_steps(case, facts, {"steps": {"available": "EPERM"}})

    assert (judgement.verdict, "EPERM" in judgement.reason) == (Verdict.SKIP, True)


@pytest.mark.parametrize(
    ("symbol", "identity", "skipped"),
    [
        ("BPF_STREAM_PARSER", "attach/hand-sockmap-parser", True),
        ("BPF_STREAM_PARSER", "attach/hand-sockmap-verdict", False),
        ("BPF_STREAM_PARSER", "attach/pair-sockmap-msg-parser-hand-link", True),
        ("BPF_STREAM_PARSER", "attach/types-sockmap-sk_skb", True),
        ("BPF_LSM", "attach/types-sockmap-lsm_cgroup", True),
        ("BPF_LSM", "attach/types-sockmap-fentry", False),
        ("DEBUG_INFO_BTF", "update_from_bpf/sockmap-iter_tcp", True),
        ("NETFILTER_BPF_LINK", "update_from_bpf/sockmap-netfilter", True),
        ("CGROUP_BPF", "update_from_bpf/sockhash-sock_ops", True),
        ("VSOCKETS_LOOPBACK", "attach/frozen-sockmap-vsock_stream-verdict-replace", True),
    ],
)
def test_a_missing_symbol_skips_what_needs_it(symbol: str, identity: str, skipped: bool) -> None:
    """The reason names the symbol; cases that do without it are asked."""
    symbols = ("BPF_SYSCALL", "BPF_JIT", "INET", "UNIX", "VSOCKETS", "VSOCKETS_LOOPBACK", "BPF_STREAM_PARSER")
    more = ("CGROUP_BPF", "BPF_EVENTS", "DEBUG_INFO_BTF", "BPF_LSM", "NETFILTER_BPF_LINK")
    config = {name: "y" for name in (*symbols, *more) if name != symbol}
    reason = unmet(find(identity), KernelFacts(Version.parse("6.12.117"), config))
    assert (reason is not None) == skipped
    assert not reason or f"CONFIG_{symbol} " in reason.reason
