# SPDX-License-Identifier: GPL-2.0-only
"""The hammer's cases and their expectations, without a kernel."""

from __future__ import annotations

import argparse

import pytest

from common.errors import UsageError
from conformance import cli
from conformance.groups import GROUPS
from conformance.groups.hammer.cases import hammer_cases, of_force
from conformance.judge.conclude import conclude
from conformance.judge.judge import judge
from conformance.model import Case, Verdict
from conformance.run.options import add_options, repeat_command
from tests.conformance.observations import facts
from vm.machine import CallStatus, LogLine, Reply

STOOD = {"insert": "ok", "threads": "ended", "traffic": "flowed", "kept": "balanced", "memory": "balanced"}
WARNING = LogLine(9, 4, 1, "WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:2651 tcp_recvmsg_locked+0x18f/0xa50")
LOCKUP = Reply(status=CallStatus.OVERRAN, error="the guest does not answer")


def find(group: str, name: str) -> Case:
    """Return a case."""
    (case,) = (each for each in GROUPS[group].cases() if each.name == name)
    return case


def parsed(*arguments: str) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(arguments)


def test_every_pair_is_hammered() -> None:
    """Each of 8 kinds is IN and OUT; the run says for how long and by what seed."""
    assert len(hammer_cases()) == 64
    hard = of_force(find("hammer", "udp4-vsock_stream"), 600.0, 7)
    assert (hard.id, hard.params["seconds"], hard.params["seed"]) == ("hammer/udp4-vsock_stream", "600.0", "7")
    assert hard.deadline > 600


@pytest.mark.parametrize(
    ("step", "answer"),
    [("threads", "stuck in pipe_read"), ("traffic", "none"), ("kept", "1 BPF map"), ("memory", "99 slab kmalloc-1k")],
)
def test_what_does_not_stand_fails(step: str, answer: str) -> None:
    """A stuck thread, no traffic, or a leak fails the pair."""
    case = find("hammer", "udp4-udp6")
    assert judge(case, facts("6.12.117"), {"steps": STOOD}).verdict is Verdict.PASS
    assert judge(case, facts("6.12.117"), {"steps": STOOD | {step: answer}}).verdict is Verdict.FAIL


@pytest.mark.parametrize(("pair", "version"), [("udp4-vsock_stream", "6.1.192"), ("unix_dgram-tcp4", "5.10.262")])
def test_a_pair_that_a_map_does_not_take_is_not_hammered(pair: str, version: str) -> None:
    """The map refuses the socket as expected, and nothing is hammered."""
    judgement = judge(find("hammer", pair), facts(version), {"steps": {"insert": "EOPNOTSUPP"}})
    assert judgement.verdict is Verdict.PASS


def test_a_known_race_may_show_and_need_not() -> None:
    """A known warning of TCP is xfail, its absence is not an xpass; on another pair it is a splat."""
    warned = Reply(status=CallStatus.ANSWERED, value={"steps": STOOD}, log=(WARNING,))
    silent = Reply(status=CallStatus.ANSWERED, value={"steps": STOOD})
    tcp, udp = find("hammer", "tcp4-udp4"), find("hammer", "udp4-udp4")

    assert conclude(tcp, facts("6.12.117"), warned).verdict is Verdict.XFAIL
    assert conclude(tcp, facts("6.12.117"), silent).verdict is Verdict.PASS
    assert conclude(udp, facts("6.12.117"), warned).verdict is Verdict.SPLAT


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("5.10.218", Verdict.HANG),
        ("5.10.223", Verdict.XFAIL),
        ("5.10.262", Verdict.HANG),
        ("6.1.100", Verdict.XFAIL),
        ("6.12.1", Verdict.XFAIL),
        ("6.12.117", Verdict.HANG),
    ],
)
def test_a_lockup_is_known_of_the_kernels_that_have_it(version: str, verdict: Verdict) -> None:
    """Parser and PASS lock up a range of each stable branch; anywhere else that is a hang like any other."""
    case = find("survive", "parser-pass-sockmap-tcp4")
    assert conclude(case, facts(version), LOCKUP).verdict is verdict


@pytest.mark.parametrize(("version", "verdict"), [("6.18.15", Verdict.XFAIL), ("7.3.4", Verdict.PANIC)])
def test_two_readers_of_udp_may_kill_the_kernels_that_let_them(version: str, verdict: Verdict) -> None:
    """The defect applies to kernels up to the fix, and to pairs with UDP."""
    said = "BUG: kernel NULL pointer dereference\nRIP: 0010:__sk_msg_recvmsg+0x3/0x4\n udp_bpf_recvmsg+0x1/0x4\n"
    died = Reply(status=CallStatus.PANICKED, console=said)

    assert conclude(find("hammer", "tcp6-udp4"), facts(version), died).verdict is verdict
    assert conclude(find("hammer", "tcp6-tcp4"), facts(version), died).verdict is Verdict.PANIC


def test_a_run_is_repeated_by_its_seed() -> None:
    """The command printed with a failure has the same seed."""
    command = repeat_command(parsed("--stress", "5", "--seed", "77"))

    assert "--stress=5.0" in command
    assert "--seed=77" in command
    assert repeat_command(parsed("--seed", "77")) == "./conform run"


def test_less_than_no_stress_is_refused() -> None:
    """A negative time is wrong usage, and so is none that ends."""
    for text, wrong in (("-1", r"least 0, not -1\.0"), ("nan", "least 0, not nan"), ("inf", "most 86400, not inf")):
        with pytest.raises(UsageError, match=f"argument --stress: must be at {wrong}"):
            cli.parse(["run", "--stress", text])
