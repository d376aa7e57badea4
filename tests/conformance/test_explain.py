# SPDX-License-Identifier: GPL-2.0-only
"""`conform explain`: every step has words, and the explanation agrees with the tables."""

from __future__ import annotations

import argparse
import random

import pytest

from common.errors import UsageError
from conformance.cli import main, parse
from conformance.commands.explain import (
    bound_words,
    case_named,
    expected,
    explain,
    explanation,
    history,
)
from conformance.expect import words
from conformance.expect.rules import GROUNDS
from conformance.groups import GROUPS, cases
from conformance.groups.redirect.expectation import expected_outcome
from conformance.judge import steps
from conformance.model import KernelFacts
from conformance.report.style import Style
from conformance.run.options import wanted_of
from conformance.run.selection import require
from kernels.version import Version
from tests.conformance.expectations import answers
from tests.conformance.observations import facts

STYLE = Style()
PASSED = "teardown/delete-sockmap-tcp4-verdict-passed"
VERSIONS = ("5.10.262", "6.1.20", "6.12.117", "7.3.4")


def steps_of(group: str) -> set[str]:
    """Return every step that a case of a group can answer."""
    if group != "redirect":
        return set(steps.table(group).rules)
    kernels = [facts(version) for version in ("5.10", "6.12")]
    return {
        step for case in GROUPS["redirect"].cases() for each in kernels for step, _ in expected_outcome(case, each).rows
    }


@pytest.mark.parametrize("group", GROUPS)
def test_every_step_has_words(group: str) -> None:
    """No step of any case is without words, and no two steps of a case have the same."""
    without = [step for step in steps_of(group) if not words.step_words(group, step)]

    assert without == []
    texts = [words.step_words(group, step) for step in steps_of(group)]
    assert not [text for text in texts if "{" in text or text != text.strip()]


def test_no_words_are_unused() -> None:
    """Every entry of words.toml is used by some step."""
    used = {(group, *key) for group in GROUPS for step in steps_of(group) for key in words.used_by(group, step)}
    used |= {
        (group, "value", f"{name} {value}")
        for group in GROUPS
        for case in GROUPS[group].cases()
        for name, value in case.params.items()
    }

    assert sorted(set(words.pieces()) - used) == []


@pytest.mark.parametrize("group", GROUPS)
def test_every_case_says_what_it_does(group: str) -> None:
    """The sentence has a value for every parameter that it mentions."""
    for case in GROUPS[group].cases():
        sentence = words.about(case)
        assert sentence.endswith("."), case.id
        assert "  " not in sentence, case.id
        assert "()" not in sentence, case.id


def test_numbers_and_parts_of_names_are_put_together() -> None:
    """N is replaced by the number, and a qualifier follows its step."""
    assert words.step_words("insert", "bit 13") == "create a map with flag bit 13 set"
    expected_words = "call pidfd_getfd(2) with Yama's ptrace_scope at 2, from a child process"
    assert words.step_words("enrol", "scope-2-child") == expected_words
    assert words.step_words("attach", "deleted: data").endswith("which program ran, after the entry was deleted")
    assert words.step_words("update_from_bpf", "sk_redirect_map of an array").endswith(
        "bpf_sk_redirect_map, with an array"
    )
    assert words.step_words("teardown", "nonsense") == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_explained_is_what_is_expected(version: str) -> None:
    """For a sample of cases, each expected step has its answer and its row, in 80 columns."""
    drawn = random.Random(7).sample(cases(), 150)
    for case in drawn:
        lines = explanation(case, facts(version), version, STYLE)
        text = " ".join(" ".join(lines).split())
        assert not [line for line in lines if len(line) > 80], case.id
        by_step = {each.step: each for each in expected(case, facts(version))}
        if case.group == "redirect":
            assert expected_outcome(case, facts(version)).rows[-1][1].id in text
            continue
        present = {step: each.answer for step, each in by_step.items() if each.answer != steps.ABSENT}
        assert present == answers(case, version)
        for step, each in by_step.items():
            assert f"{step}: " in text
            assert f"{each.rule.file}: {each.rule.id}" in text


def test_the_control_comes_last_under_its_own_heading() -> None:
    """First the steps of the case, then those of its control; a comparison has the ground `control`."""
    lines = explanation(case_named(PASSED), facts("6.12.117"), "6.12.117", STYLE)
    names = [line.split(": ")[0].strip() for line in lines if line[:2] == "  " and line[2] != " " and ": " in line]
    heading = next(number for number, line in enumerate(lines) if line.startswith("The control, in the same clone"))
    before, after = (" ".join(" ".join(part).split()) for part in (lines[:heading], lines[heading:]))

    assert [name for name in names if name.startswith("control ")] == [
        "control data", "control queued", "control error", "control receive", "control send", "control memory",
    ]  # fmt: skip
    assert "control receive" not in before
    assert after.startswith("The control, in the same clone: the same scenario on sockets that were never in a map For")
    assert "control receive: socket (row promises.toml: control-talks, as above) the peer sends" in after
    row = "ground: control; expected since 5.10 row groups/teardown/promises.toml: as-control"
    assert row in before
    assert "poll: as the control poll(2)" in before
    assert before.count(row) == 1


def test_a_case_without_a_control_has_no_such_heading() -> None:
    """A case without a control has no heading for it."""
    lines = explanation(case_named("insert/sockmap-tcp4-listening"), facts("6.12.117"), "6.12.117", STYLE)

    assert "control" not in " ".join(lines)


@pytest.mark.parametrize("group", GROUPS)
def test_every_step_has_a_ground(group: str) -> None:
    """Every expectation of any case on any kernel has a reason and a ground."""
    own = GROUPS[group].decided
    for kernel in map(facts, (*VERSIONS, "6.18.44")):
        for case in GROUPS[group].cases():
            rows = own(case, kernel) if own else steps.table(group).decided(case.params, kernel.version).items()
            assert rows
            assert {step: rule.id for step, rule in rows if rule.ground not in GROUNDS} == {}
            assert {rule.ground for _, rule in rows if rule.outcome == steps.AS_CONTROL} <= {"control"}


def test_a_step_has_the_ground_of_its_own_row() -> None:
    """Creating a socket has another ground than inserting it; a row with a commit has the ground `version`."""
    case = case_named("insert/sockmap-tcp4-established")
    rules = {each.step: each.rule for each in expected(case, facts("6.12.117"))}

    assert (rules["make"].id, rules["make"].ground) == ("made", "contract")
    assert (rules["state"].id, rules["state"].ground) == ("tcp-state-established", "contract")
    assert (rules["insert"].id, rules["insert"].ground) == ("tcp-established", "version")
    text = " ".join(explanation(case_named("leaks/delete-tcp4"), facts("6.12.117"), "6.12.117", STYLE))
    assert "ground: control; expected since" in text


def test_the_page_has_no_empty_line_but_before_a_heading() -> None:
    """The printed command runs this case and no other."""
    for case in random.Random(5).sample(cases(), 50):
        lines = explanation(case, facts("6.12.117"), "6.12.117", STYLE)
        after = [lines[number + 1] for number, line in enumerate(lines) if not line]
        assert not [line for line in after if line.startswith(" ") and not line.startswith("  scenario ")]
        stress = "--stress 5 --cpus 2 " if GROUPS[case.group].stress else ""
        assert f"./conform run {stress}--case {case.id}" in " ".join(" ".join(lines).replace("\\", "").split())


def test_a_step_shows_its_answers_on_other_versions() -> None:
    """The answers before and after are shown with the commits; a stable branch has its own version."""
    case = case_named("redirect/sockmap-send-to-local-udp4-unix_dgram")
    past = history(case, "insert out")

    assert [(str(version), each.answer) for version, each in past] == [("5.10", "EOPNOTSUPP"), ("5.15", "ok")]
    old, new = (" ".join(explanation(case, facts(version), version, STYLE)) for version in ("5.10.262", "6.12.117"))
    assert "from 5.15 on: ok (row groups/redirect/promises-insert.toml: unix-dgram)" in " ".join(old.split())
    assert "before 5.15: EOPNOTSUPP (row groups/redirect/promises-insert.toml: neither-tcp-nor-udp)" in " ".join(
        new.split()
    )


def test_known_defects_say_where_they_are_in_force() -> None:
    """All defects of the case on any kernel, with symptom, both bounds, and the place of the row."""
    old, new = (
        " ".join(" ".join(explanation(case_named(PASSED), facts(version), version, STYLE)).split())
        for version in ("6.1.20", "6.1.40")
    )

    assert "lost (on this kernel)" in old
    assert "wedged (not on this kernel)" in old
    assert "lost (not on this kernel)" in new
    assert "known defect lost on this kernel: nowhere" in old
    assert "since 5.10; fixed in 6.4, 6.1.32 on 6.1" in old
    assert "row groups/teardown/defects-data.toml: lost" in old
    assert "since 6.4, 6.1.32 on 6.1; not fixed" in new


def test_a_case_that_is_not_asked_says_so() -> None:
    """The explanation names what the kernel lacks, and the row."""
    kernel = KernelFacts(Version.parse("6.12.9"), {"INET": "n", "BPF_SYSCALL": "y"})
    text = " ".join(explanation(case_named(PASSED), kernel, "x", STYLE))

    assert "not run: CONFIG_INET is not set" in text
    assert "row judge/needs.toml: inet" in text


def test_when_a_case_is_not_asked() -> None:
    """The versions come before the reason, which may end with a version itself."""
    lines = explanation(case_named("pressure/closed-sockhash-unix_dgram-skb_local"), facts("7.3.4"), "x", STYLE)
    text = " ".join(" ".join(lines).split())

    assert "not run from 5.10 on, and before 5.15: a map refuses UNIX sockets before 5.15 (row judge/needs" in text
    assert "CONFIG_BPF_STREAM_PARSER before 5.13 (row" in text


def test_the_command_that_runs_a_case_does_run_it() -> None:
    """The parser accepts the command that is printed for a case of each group, and it selects the case."""
    for group in GROUPS.values():
        case = group.cases()[0]
        lines = explanation(case, facts("6.12.117"), "x", STYLE)
        at = next(number for number, line in enumerate(lines) if "run it with" in line)
        line = lines[at].partition("run it with")[2]
        words = (line[:-1] + lines[at + 1] if line.endswith("\\") else line).split()
        options = parse(words[1:])
        wanted = wanted_of(options, "")
        assert list(require(wanted, ["k"], cases())["k"]) == [case.id]


def test_a_bound_is_said_with_its_branches() -> None:
    """The mainline version comes first."""
    assert bound_words({"mainline": "6.4", "6.1": "6.1.32"}) == "6.4, 6.1.32 on 6.1"


def test_a_glob_means_one_case() -> None:
    """An id, a name or a glob of either."""
    assert {case_named(each).id for each in (PASSED, PASSED.split("/")[1], "*/delete-sockmap-tcp4-verdict-passed")} == {
        PASSED
    }


@pytest.mark.parametrize(
    ("pattern", "sentence", "hint"),
    [
        ("teardown/delete-*-passed", "'teardown/delete-*-passed' matches ", "e.g. one of teardown/delete-"),
        ("teardown/delete-sockmap-tcp4-verdict-pased", "there is no case", f"the nearest are {PASSED}"),
        ("\0", "there is no case", "list the cases with"),
    ],
)
def test_a_name_of_no_case_is_refused_with_a_hint(pattern: str, sentence: str, hint: str) -> None:
    """For several cases or none, the error names some ids."""
    with pytest.raises(UsageError) as refused:
        case_named(pattern)

    assert sentence in str(refused.value)
    assert refused.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--version", "soon"], "--version soon is not a kernel version"),
        (["--version", "4.19"], "the tables begin at 5.10, not at 4.19"),
        (["--version", "6.1", "--kernel", "host"], "--kernel and --version both name a kernel"),
    ],
)
def test_a_wrong_kernel_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    """One sentence and a hint, and the exit code of wrong usage."""
    assert main(["explain", PASSED, *arguments]) == 128
    assert message in capsys.readouterr().err


def test_without_a_kernel_it_is_the_newest(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --version the newest verified kernel is explained."""
    assert explain(argparse.Namespace(case=PASSED, kernel=None, version=None)) == 0
    assert "the newest kernel that the tables know" in capsys.readouterr().out
