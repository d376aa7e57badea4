# SPDX-License-Identifier: GPL-2.0-only
"""The state of the machine outranks the observation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.groups.redirect.cases import redirect_cases
from conformance.judge.conclude import conclude, trouble_of
from conformance.model import Ground, KernelFacts, Source, Verdict
from kernels.version import Version
from tests.conformance.observations import case, flowed
from vm.machine import CallStatus, LogLine, Reply

CASE = redirect_cases()[0]
FACTS = KernelFacts(version=Version(6, 12, 107), config={})
WARNING = LogLine(sequence=9, level=4, microseconds=1, text="WARNING: CPU: 0 PID: 1 at net/core/skmsg.c:7 x+0x1/0x2")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (CallStatus.PANICKED, Verdict.PANIC),
        (CallStatus.OVERRAN, Verdict.HANG),
        (CallStatus.LOST, Verdict.LOST),
    ],
)
def test_the_fate_of_the_machine_is_the_verdict(status: CallStatus, verdict: Verdict) -> None:
    """A request that was not answered has its own verdict, whatever the log says."""
    assert conclude(CASE, FACTS, Reply(status=status, log=(WARNING,))).verdict is verdict


def test_a_scenario_that_raises_is_the_harness_s_fault_unless_the_kernel_complained() -> None:
    """An exception is infra; with a report in the window the kernel is to blame for it."""
    assert conclude(CASE, FACTS, Reply(status=CallStatus.RAISED)).verdict is Verdict.INFRA
    assert conclude(CASE, FACTS, Reply(status=CallStatus.RAISED, log=(WARNING,))).verdict is Verdict.SPLAT


def test_a_panic_is_titled_from_the_console() -> None:
    """A panic gets its title from the console."""
    reply = Reply(
        status=CallStatus.PANICKED, console="x\n[    5.1] Kernel panic - not syncing: sysrq triggered crash\n"
    )

    assert "Kernel panic - not syncing: sysrq triggered crash" in conclude(CASE, FACTS, reply).differences[0]


def test_a_panic_is_called_by_its_cause() -> None:
    """The cause of a panic comes first on the console, the panic last."""
    console = "[    5.0] kernel BUG at net/core/skmsg.c:102!\n[    5.1] RIP: 0010:sk_msg_trim+0x1/0x2\n"
    console += "[    5.2] Call Trace:\n[    5.3]  tcp_bpf_sendmsg+0x1/0x2\n[    5.4] Kernel panic - not syncing: Fatal"
    sentence = conclude(CASE, FACTS, Reply(status=CallStatus.PANICKED, console=console)).differences[0]

    assert sentence.endswith("kernel BUG at net/core/skmsg.c in sk_msg_trim (sk_msg_trim < tcp_bpf_sendmsg)")


def test_what_was_said_between_two_cases_names_both() -> None:
    """A late report is not lost, and is not blamed on one case."""
    judgement = conclude(
        CASE, FACTS, Reply(status=CallStatus.ANSWERED, value={}, before=(WARNING,)), previous="insert/tcp4"
    )

    assert judgement.verdict is Verdict.SPLAT
    assert f"between insert/tcp4 and {CASE.id} the kernel logged: WARNING" in judgement.differences[0]


def test_a_guest_without_memory_accuses_nobody() -> None:
    """An OOM kill alone is blamed on the guest's size; with a warning, the warning counts."""
    killed = LogLine(9, 3, 1, "Out of memory: Killed process 7 (python3) total-vm:9kB, anon-rss:9kB")

    assert conclude(CASE, FACTS, Reply(status=CallStatus.RAISED, log=(killed,))).verdict is Verdict.INFRA
    assert conclude(CASE, FACTS, Reply(status=CallStatus.RAISED, log=(killed, WARNING))).verdict is Verdict.SPLAT


def test_a_known_splat_is_expected_and_excuses_nothing_else() -> None:
    """A pass with a known report is xfail; a failure stays a failure."""
    local = case("sockmap-ingress-to-local-udp4-unix_dgram")
    quiet = Reply(status=CallStatus.ANSWERED, value=flowed("out"))
    warned = replace(quiet, log=(WARNING,), taint=512)
    other = replace(WARNING, text="BUG: something else")

    def verdict(reply: Reply) -> Verdict:
        return conclude(local, FACTS, reply, known=known).verdict

    assert verdict(quiet) is Verdict.PASS
    assert conclude(local, FACTS, warned).verdict is Verdict.SPLAT
    assert verdict(warned) is Verdict.XFAIL
    excused = conclude(local, FACTS, warned, known=known)
    assert (excused.reason, excused.grounds[-1].place) == ("known splat: old friend", "splats: line 7")
    assert verdict(replace(warned, log=(WARNING, other))) is Verdict.SPLAT
    assert verdict(replace(warned, value=flowed("out_peer"))) is Verdict.FAIL
    assert verdict(replace(warned, log_complete=False)) is Verdict.INFRA
    assert verdict(replace(quiet, taint=512)) is Verdict.SPLAT


def known(title: str) -> Ground | None:
    """Excuse one report by a list."""
    line = Ground(file="splats", row="line 7", source=Source.LIST, reason="old friend")
    return line if "skmsg.c" in title else None


def test_a_silent_machine_is_not_named_after_our_own_nmi() -> None:
    """The host made a silent kernel panic to learn where it was; that place is the title, not the panic."""
    console = "Kernel panic - not syncing: NMI: Not continuing\n"
    reply = Reply(status=CallStatus.OVERRAN, error="it was at RIP sk_psock_backlog+0x1", console=console)

    (difference,) = conclude(CASE, FACTS, reply).differences

    assert "sk_psock_backlog" in difference
    assert "NMI" not in difference


def test_a_warning_in_the_window_is_a_splat() -> None:
    """A kernel that warned did not pass, even if every byte arrived."""
    judgement = conclude(CASE, FACTS, Reply(status=CallStatus.ANSWERED, value={}, log=(WARNING,)))

    assert judgement.verdict is Verdict.SPLAT
    assert "net/core/skmsg.c" in judgement.differences[0]


def test_a_new_taint_is_a_splat() -> None:
    """A taint bit that appears during a case counts although no line was recognised."""
    assert conclude(CASE, FACTS, Reply(status=CallStatus.ANSWERED, value={}, taint=512)).verdict is Verdict.SPLAT


@pytest.mark.parametrize("bit", [0, 1, 6, 10, 12, 13, 15, 16, 18])
def test_a_taint_by_modules_or_the_user_does_not_count(bit: int) -> None:
    """An out-of-tree module that a case happens to load is not a fault of the kernel."""
    assert trouble_of(Reply(status=CallStatus.ANSWERED, value={}, taint=1 << bit)) is None


@pytest.mark.parametrize(("bit", "words"), [(4, "machine check"), (5, "bad page"), (7, "died"), (9, "warned"),
                                            (14, "soft lockup"), (25, "flag 25")])  # fmt: skip
def test_a_taint_that_tells_of_trouble_is_a_splat(bit: int, words: str) -> None:
    """The same with a harmless flag besides, and for an unknown flag."""
    found = trouble_of(Reply(status=CallStatus.ANSWERED, value={}, taint=1 << bit | 1 << 12))

    assert found is not None
    assert (found[0], words in found[1], "module" in found[1]) == (Verdict.SPLAT, True, False)


def test_an_unread_log_is_never_a_pass() -> None:
    """Without the whole log the verdict is infra."""
    reply = Reply(status=CallStatus.ANSWERED, value={}, log_complete=False)

    assert conclude(CASE, FACTS, reply).verdict is Verdict.INFRA


def test_an_answer_of_the_wrong_shape_is_infra() -> None:
    """An observation the judge cannot read blames the harness, not the kernel."""
    assert conclude(CASE, FACTS, Reply(status=CallStatus.ANSWERED, value=[1, 2])).verdict is Verdict.INFRA
