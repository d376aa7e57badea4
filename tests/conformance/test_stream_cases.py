# SPDX-License-Identifier: GPL-2.0-only
"""The stream cases: guest and catalogue agree, and the tables accept no wrong answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bpf.build import SOURCES
from conformance.groups.stream import cases as stream
from conformance.groups.stream.cases import stream_cases
from conformance.groups.stream.guest.messages import message, named
from conformance.judge.defects import deviations
from kernels.version import Version
from tests.conformance.expectations import answers, versioned, without_commit

KERNELS = ("5.10.262", "6.1.192", "6.12.118", "6.18.15", "7.3.4")
GUEST = Path(stream.__file__).parent / "guest"


def keys_of(file: str, table: str) -> set[str]:
    """Return the keys of a guest table; importing it needs built programs."""
    source = (GUEST / file).read_text()
    found = re.search(rf"^{table}: Final[^\n]*? = {{(.*?)}}", source, re.MULTILINE | re.DOTALL)
    assert found, f"{file} has no table {table}"
    return set(re.findall(r'"([a-z-]+)":', found[1]))


@pytest.mark.parametrize(
    ("file", "table", "param"),
    [
        ("scenario.py", "QUESTIONS", "question"),
        ("verdicts.py", "REFUSALS", "refusal"),
        ("leave.py", "SIZES", "sizes"),
        ("ends.py", "PEER_SENDS", "peer_sends"),
    ],
)
def test_guest_and_catalogue_agree(file: str, table: str, param: str) -> None:
    """The guest has a function for each value of the cases, and no other."""
    asked = {case.params[param] for case in stream_cases() if param in case.params}
    assert asked == keys_of(file, table)


def test_the_guest_knows_the_answers_and_records_of_the_programs() -> None:
    """The numbers in the guest are those of the C sources."""
    names = re.findall(r"^\tANSWER_(\w+),", (SOURCES / "answer.h").read_text(), re.MULTILINE)
    say = re.findall(r"^    ([A-Z]+) = (\d)$", (GUEST / "setup.py").read_text(), re.MULTILINE)
    assert say == [(name, str(number)) for number, name in enumerate(names)]
    record = re.search(r"#define RECORD (\d+)", (SOURCES / "sk_skb_parser_record.bpf.c").read_text())
    assert record
    assert f"RECORD: Final = {record[1]}\n" in (GUEST / "records.py").read_text()


def test_rows_about_versions_cite_their_commits() -> None:
    """A row that does not hold for every kernel names a commit and its subject."""
    assert without_commit(versioned("stream")) == []


def test_defects_contradict_promises() -> None:
    """Each symptom differs from the promised answer; a row with the promised answer would excuse nothing."""
    for version in KERNELS:
        for case in stream_cases():
            promised = answers(case, version)
            for row in deviations(case, Version.parse(version)):
                assert all(promised.get(step) != answer for step, answer in row.answers.items()), (case.id, str(row))


def test_messages_are_recognized() -> None:
    """A message, a piece of a message, an end and an error are named in order."""
    one, two = message(100), message(20)
    parts = {"one": one, "two": two}
    assert named([one, two], parts) == "one + two"
    assert named([one[:40], one[40:] + two, "eof"], parts) == "one + two + eof"
    assert named([one[40:], two], parts) == "one[40:100] + two"
    assert named([two, one, one], parts) == "two + one + one"
    assert named([b"", "!EFAULT", "!EFAULT"], parts) == "empty + EFAULT"
    assert named([], parts) == "nothing"
    assert named([b"stranger"], parts) == "8 bytes never sent"


@pytest.mark.parametrize("sent_before", [0, 60, 250, 300, 65_530])
def test_a_piece_ends_where_the_next_message_begins(sent_before: int) -> None:
    """The byte behind a piece may be equal to the first byte of what follows: the name must not depend on that."""
    message(4 * sent_before)
    for _ in range(500):
        stream = message(50)
        parts = {f"r{number + 1}": stream[number * 10 :][:10] for number in range(5)}
        assert named([stream[10:45] * 3], parts) == " + ".join(["r2 + r3 + r4 + r5[0:5]"] * 3)
