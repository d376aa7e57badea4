# SPDX-License-Identifier: GPL-2.0-only
"""Known defects: strict rows, and verdicts that notice both a symptom and its end."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.groups import GROUPS
from conformance.groups.teardown.cases import LAST
from conformance.judge import conclude as concluding
from conformance.judge import defects as table
from conformance.judge import steps
from conformance.judge.defects import Deviation
from conformance.model import Case, Ground, Judgement, Source, Verdict
from tests.conformance.observations import facts
from vm.machine import CallStatus, LogLine, Reply

CASE = Case("insert", "x", "", {"kind": "tcp4"})
ROW = 'match = {}\nsince = { mainline = "5.10" }\ncommit = ""\nreason = "it forgets"\n'
WARNING = LogLine(9, 4, 1, "WARNING: CPU: 0 PID: 1 at net/strparser/strparser.c:7 strp_done+0x1/0x2")
OTHER = LogLine(9, 4, 1, "WARNING: CPU: 0 PID: 1 at net/core/skmsg.c:7 sk_psock_drop+0x1/0x2")
SANE = {"insert": "ok", "read": "data", "gone": "absent"}


def load(tmp_path: Path, *rows: str) -> tuple[Deviation, ...]:
    """Read rows, each given the keys that all have."""
    path = tmp_path / "insert-x.toml"
    path.write_text("".join(f'[[deviation]]\nid = "r{number}"\n{ROW}{row}\n' for number, row in enumerate(rows)))
    return table.load([path], [CASE.params])


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Judgement]:
    """Judge a reply by rows about defects; SANE is the promised answer."""
    path = tmp_path / "sane.toml"
    answers = ", ".join(f'{step} = "{answer}"' for step, answer in SANE.items())
    path.write_text(f'[[rule]]\nid = "sane"\n{ROW}answers = {{ {answers} }}\n')
    sane = steps.load([path], [CASE.params])
    monkeypatch.setattr(steps, "table", lambda group: sane)

    def judge(reply: Reply, *rows: str, listed: str = "") -> Judgement:
        known = load(tmp_path, *rows)
        monkeypatch.setattr(concluding, "deviations", lambda case, version: known)
        return concluding.conclude(CASE, facts("6.12.9"), reply, known=lambda title: known_line(listed))

    return judge


def known_line(reason: str) -> Ground | None:
    """Return the entry of a list that excuses a report, if there is one."""
    return Ground(file="splats", row="line 1", source=Source.LIST, reason=reason) if reason else None


def answered(log: tuple[LogLine, ...] = (), **answers: str) -> Reply:
    """Reply with these answers in place of the sane ones."""
    given = {step: answer for step, answer in {**SANE, **answers}.items() if answer != "absent"}
    return Reply(status=CallStatus.ANSWERED, value={"steps": given}, log=log)


FORGETS = 'answers = { read = "nothing" }'
WARNS = 'splat = "strp_done"'
HANGS = 'verdict = "hang"'
SPINS = 'verdict = "hang"\nwhere = "udp_bpf_recvmsg"'
SPINNING = Reply(status=CallStatus.OVERRAN, console=" <TASK>\n  udp_bpf_recvmsg+0x328/0x450\n")
ASLEEP = Reply(status=CallStatus.OVERRAN, error="stack: [<0>] udp_bpf_recvmsg+0x10/0x450")
LOGGED = Reply(status=CallStatus.OVERRAN, log=(LogLine(9, 6, 1, " <TASK>\n  udp_bpf_recvmsg+0x328/0x450"),))
STALE = Reply(
    status=CallStatus.OVERRAN, console="[   32.1]  tcp_bpf_recvmsg+0x1/0x2\n[   32.2]  ? udp_bpf_recvmsg+0x3/0x4\n"
)
ELSEWHERE = Reply(status=CallStatus.OVERRAN, console=" <TASK>\n  tcp_bpf_recvmsg+0x328/0x450\n")


@pytest.mark.parametrize(
    ("rows", "reply", "verdict"),
    [
        ((FORGETS,), answered(read="nothing"), Verdict.XFAIL),
        ((FORGETS,), answered(), Verdict.XPASS),
        ((FORGETS,), answered(read="half"), Verdict.FAIL),
        ((FORGETS,), answered(read="nothing", insert="EBUSY"), Verdict.FAIL),
        ((FORGETS,), answered((WARNING,), read="nothing"), Verdict.SPLAT),
        ((FORGETS,), Reply(status=CallStatus.OVERRAN), Verdict.HANG),
        (('answers = { read = "absent" }',), answered(read="absent"), Verdict.XFAIL),
        (('answers = { read = "data" }',), answered(), Verdict.XPASS),
        ((WARNS,), answered((WARNING,)), Verdict.XFAIL),
        ((WARNS,), answered(), Verdict.XPASS),
        ((WARNS,), answered((OTHER,)), Verdict.SPLAT),
        ((WARNS,), answered((WARNING,), read="nothing"), Verdict.FAIL),
        ((WARNS, FORGETS), answered((WARNING,), read="nothing"), Verdict.XFAIL),
        ((WARNS, FORGETS), answered((WARNING,)), Verdict.XPASS),
        ((HANGS,), Reply(status=CallStatus.OVERRAN), Verdict.XFAIL),
        ((HANGS,), Reply(status=CallStatus.PANICKED), Verdict.PANIC),
        ((HANGS,), answered(), Verdict.XPASS),
        ((SPINS,), SPINNING, Verdict.XFAIL),
        ((SPINS,), ASLEEP, Verdict.XFAIL),
        ((SPINS,), LOGGED, Verdict.XFAIL),
        ((SPINS,), STALE, Verdict.HANG),
        ((SPINS,), ELSEWHERE, Verdict.HANG),
        ((HANGS, FORGETS), Reply(status=CallStatus.OVERRAN), Verdict.XFAIL),
        ((f"{HANGS}\n{WARNS}",), Reply(status=CallStatus.OVERRAN), Verdict.HANG),
        ((f"{HANGS}\n{WARNS}",), Reply(status=CallStatus.OVERRAN, log=(WARNING,)), Verdict.XFAIL),
    ],
)
def test_only_exactly_the_symptom_is_expected(
    judged: Callable[..., Judgement], rows: tuple[str, ...], reply: Reply, verdict: Verdict
) -> None:
    """A symptom is xfail, its absence xpass, and any other difference fails as without a row."""
    assert judged(reply, *rows).verdict is verdict


@pytest.mark.parametrize(
    ("row", "answers", "verdict"),
    [
        (FORGETS, {}, Verdict.XPASS),
        ('answers = { late = "waits" }', {}, Verdict.FAIL),
        ('answers = { late = "waits" }\nracy = true', {}, Verdict.PASS),
        ('answers = { read = "nothing", late = "waits" }', {}, Verdict.FAIL),
        ('answers = { gone = "there" }', {}, Verdict.XPASS),
        ('answers = { gone = "there" }', {"gone": "half"}, Verdict.FAIL),
    ],
)
def test_a_defect_is_gone_only_where_its_promise_is_seen_to_hold(
    judged: Callable[..., Judgement], row: str, answers: dict[str, str], verdict: Verdict
) -> None:
    """A missing step proves nothing, unless a row promises that it is absent."""
    judgement = judged(answered((), **answers), row)

    assert judgement.verdict is verdict
    assert verdict is not Verdict.FAIL or answers or "prove that the known defect r0 is gone" in str(judgement)


@pytest.mark.parametrize(("chain", "verdict"), [("sk_psock_drop", Verdict.XFAIL), ("tcp_close", Verdict.SPLAT)])
def test_a_report_is_excused_by_its_chain_of_functions(
    judged: Callable[..., Judgement], chain: str, verdict: Verdict
) -> None:
    """A row that names functions excuses no report that went through others."""
    warning = replace(WARNING, text=f"{WARNING.text}\nCall Trace:\n strp_done+0x1/0x2\n sk_psock_drop+0x1/0x2")

    assert judged(answered((warning,)), f'{WARNS}\nchain = "{chain}"').verdict is verdict


def test_a_known_report_is_not_the_cause_of_death(judged: Callable[..., Judgement]) -> None:
    """Of several reports the first unknown one is named."""
    died = "BUG: kernel NULL pointer dereference, address: 00000000000002a0\nRIP: 0010:__sk_msg_recvmsg+0x3e3/0x4e0\n"
    reply = Reply(status=CallStatus.PANICKED, console=f"{WARNING.text}\n---[ end trace 0 ]---\n{died}")

    assert "NULL pointer dereference in __sk_msg_recvmsg" in judged(reply, WARNS).differences[0]
    assert "strp_done" in judged(reply).differences[0]


def test_a_verdict_names_its_defects(judged: Callable[..., Judgement]) -> None:
    """An xfail names the defects that show, an xpass those that do not; both give the reason."""
    shown = judged(answered((WARNING,), read="nothing"), WARNS, FORGETS)
    gone = judged(answered((WARNING,)), WARNS, FORGETS)

    assert (shown.deviation, gone.deviation) == ("r0 r1", "r1")
    assert "known defect r0: it forgets (since 5.10)" in shown.reason
    assert gone.differences == ("the known defect r1 does not show: remove its row, or set `until` to this version",)
    assert judged(answered(read="half"), FORGETS).deviation == ""


def test_a_known_defect_is_shown_with_the_promise(judged: Callable[..., Judgement]) -> None:
    """The promise and the observed answer are shown for the steps that differ, and for no others."""
    judgement = judged(answered(read="nothing"), FORGETS)

    assert (judgement.verdict, judgement.expected, judgement.observed) == (Verdict.XFAIL, "read data", "read nothing")
    assert judgement.differences == ("wanted read to give data, got nothing",)


def test_a_list_adds_its_excuse_to_that_of_the_rows(judged: Callable[..., Judgement]) -> None:
    """A case that shows a known defect and a report that a list knows names both."""
    judgement = judged(answered((OTHER,), read="nothing"), FORGETS, listed="old friend")

    assert (judgement.verdict, judgement.deviation) == (Verdict.XFAIL, "r0")
    assert judgement.reason == "known defect r0: it forgets (since 5.10); known splat: old friend"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("", "lacks a symptom: answers, splat, verdict"),
        ('splat = "("', "'splat' is not a regular expression"),
        ("splat = 7", "'splat' is not a regular expression"),
        ('verdict = "fail"', "'verdict' is one of hang, panic, lost, not 'fail'"),
        ('where = "x"', "lacks a symptom: answers, splat, verdict"),
        (f'{WARNS}\nwhere = "x"', "'where' needs a 'verdict'"),
        (f'{HANGS}\nwhere = "("', "'where' is not a regular expression"),
        ("answers = { read = 7 }", "'answers' gives each step an answer"),
        (f"{WARNS}\nlink = 7", "'link' is text like https://"),
        (f'{WARNS}\nlink = "CVE-2026-12345"', "'link' is text like https://"),
        (f'{WARNS}\ncve = "2026-12345"', "'cve' is text like CVE-"),
        (f"{WARNS}\ntitle = 7", "'title' is text, not 7"),
        (f'{WARNS}\ncase = "x"', "'case' is text like"),
        (f'{HANGS}\nchain = "x"', "'chain' needs a 'splat'"),
        (f'{WARNS}\noutcome = "x"\nwhen = "y"', "unknown key 'when'"),
    ],
)
def test_a_row_that_is_wrong_is_refused(tmp_path: Path, row: str, sentence: str) -> None:
    """A row without a symptom, or with an unknown key, is refused."""
    with pytest.raises(UsageError) as refused:
        load(tmp_path, row)

    assert str(refused.value).startswith("insert-x.toml, row 1 (r0): ")
    assert sentence in str(refused.value)


def test_every_file_of_deviations_can_be_read() -> None:
    """Each file belongs to an existing group, and each row matches an existing case."""
    for path in table.HERE.glob("*/defects*.toml"):
        group = path.parent.name
        assert load_all(group), path.name


def test_a_defect_has_one_id() -> None:
    """Across all files an id names one defect, a defect has one id, and no id ends with a number."""
    groups = {path.parent.name for path in table.HERE.glob("*/defects*.toml")}
    said = {(str(row), row.rule.reason) for group in groups for row in load_all(group)}

    assert len(said) == len({name for name, _ in said}) == len({reason for _, reason in said})
    assert not [name for name, _ in said if re.search(r"-\d+$", name)]


def test_a_row_may_show_in_several_ways(tmp_path: Path) -> None:
    """Each match overrides keys of the row and inherits the rest; a subject belongs to its commit."""
    path = tmp_path / "insert-x.toml"
    path.write_text("""
[[deviation]]
id = "forgets"
since = { mainline = "5.10" }
until = { mainline = "6.1" }
commit = "0123456789ab"
subject = "its title"
reason = "it forgets"
answers = { read = "nothing" }

[[deviation.match]]
kind = ["tcp4"]

[[deviation.match]]
kind = ["udp4"]
since = { mainline = "5.13" }
commit = ""
answers = { read = "half" }
""")
    one, other = table.load([path], [{"kind": "tcp4"}, {"kind": "udp4"}])

    assert (str(one), dict(one.answers), one.rule.subject) == ("forgets", {"read": "nothing"}, "its title")
    assert (str(other), dict(other.answers), other.rule.subject) == ("forgets", {"read": "half"}, "")
    assert one.rule.match == {"kind": frozenset({"tcp4"})}
    assert other.rule.match == {"kind": frozenset({"udp4"})}
    assert (str(one.rule.since.mainline), str(other.rule.since.mainline)) == ("5.10", "5.13")
    assert one.rule.until == other.rule.until


@pytest.mark.parametrize("match", ["[]", "[7]", '[{ kind = ["tcp4"], outcome = "x" }]', '[{ kind = ["udp4"] }]'])
def test_a_match_that_is_wrong_is_refused(tmp_path: Path, match: str) -> None:
    """A list of matches is as strict as one match."""
    path = tmp_path / "insert-x.toml"
    path.write_text(f'[[deviation]]\nid = "r0"\n{ROW.replace("match = {}", f"match = {match}")}{FORGETS}\n')

    with pytest.raises(UsageError, match=r"^insert-x.toml, row 1 \(r0\): "):
        table.load([path], [CASE.params])


def test_a_row_may_name_a_family_of_its_group(tmp_path: Path) -> None:
    """The row then matches a later member of the family, too; a family of another group is unknown."""
    path = tmp_path / "defects.toml"
    path.write_text(
        '[[deviation]]\nid = "x"\nmatch = { exit = ["closing_alone"] }\nsince = { mainline = "5.10" }\n'
        'answers = { queued = "nowhere" }\ncommit = ""\nreason = "r"\n'
    )
    universe = [case.params for case in GROUPS["teardown"].cases()]
    (row,) = table.load([path], universe, GROUPS["teardown"].families)

    assert row.rule.match["exit"] == {"close", *LAST} - {"namespace"}
    with pytest.raises(UsageError, match="'exit' has the unknown value 'closing_alone'"):
        table.load([path], universe, GROUPS["insert"].families)


def load_all(group: str) -> tuple[Deviation, ...]:
    """Read all rows about a group."""
    subject = GROUPS[group]
    return table.load(table.files(group), [case.params for case in subject.cases()], subject.families)
