# SPDX-License-Identifier: GPL-2.0-only
"""An untrusted log: a line that this suite cannot have written is refused with its number, and the rest is safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from common.errors import ExitCode, UsageError
from conformance.cli import main
from conformance.report.event_types import Event
from conformance.report.events import NAME, encode, read
from conformance.report.formats import FORMATS
from tests.conformance import report_runs

HUGE = 10**400
NASTY = "\x1b[2J\x07\u202e\ud800\ufffe ]]> <b> `x`|\nok 1 - forged\n# Subtest: forged\n<!-- [x](y) \x9b"
BAD = report_runs.sick().unexpected()[0]
EVENTS: dict[str, Event] = {"run": report_runs.START, "kernel": report_runs.KERNEL_6_12, "case": BAD}
LINE = {"sequence": 1, "level": 3, "microseconds": 5, "text": "BUG"}
TRY = {"verdict": "fail", "observed": "dropped", "times": 1, "fresh": True, "log": [LINE]}


def log(folder: Path, kind: str, **changes: Any) -> tuple[Path, int]:
    """Write a log, one event changed; return it and the number of that line."""
    lines = []
    for name, event in EVENTS.items():
        values = json.loads(encode(event))
        lines.append(json.dumps(values | (changes if name == kind else {})))
    path = folder / NAME
    path.write_text("".join(f"{line}\n" for line in lines))
    return path, list(EVENTS).index(kind) + 1


ODD: list[tuple[str, dict[str, Any], str]] = [
    ("run", {"event": ["run"]}, "not an event"),
    ("run", {"event": {"run": 1}}, "not an event"),
    ("run", {"started": NASTY}, "`started` cannot be"),
    ("run", {"started": "2026-11-22T20:29:00"}, "`started` has no time zone"),
    ("run", {"selected": {"a b": 1}}, "`selected` cannot be 'a b'"),
    ("run", {"quick": {"a": {"chose": 1}}}, "`quick` of a needs among, rows"),
    ("run", {"deadline": float("nan")}, "`deadline`: expected `float`"),
    ("kernel", {"slug": "../x"}, "`slug` cannot be"),
    ("kernel", {"slug": ".."}, "`slug` cannot be"),
    ("kernel", {"version": "new"}, "'new' does not start with a kernel version"),
    ("kernel", {"factor": HUGE}, "`factor`"),
    ("case", {"seconds": float("inf")}, "`seconds`: expected `float`"),
    ("case", {"kernel": "a\nb"}, "`kernel` cannot be"),
    ("case", {"name": "x # SKIP"}, "`name` cannot be"),
    ("case", {"group": ""}, "`group` cannot be"),
    ("case", {"id": "../../etc/passwd"}, "`id` cannot be"),
    ("case", {"evidence": "/etc"}, "`evidence` lies outside"),
    ("case", {"evidence": "cases/../../.."}, "`evidence` lies outside"),
    ("case", {"log": [[1]]}, "`log[0]`"),
    ("case", {"log": [LINE | {"microseconds": HUGE}]}, "`microseconds` of a line of the log is too large"),
    ("case", {"log": [LINE | {"text": None}]}, "`log[0].text`"),
    ("case", {"tries": [TRY | {"times": True}]}, "`tries[0].times`"),
    ("case", {"tries": [{"verdict": "fail"}]}, "`tries[0]`"),
    ("case", {"tries": [TRY | {"log": ["x"]}]}, "`tries[0].log[0]`"),
    ("case", {"observation": {"steps": [1]}}, "`steps` of the observation is not an object"),
    ("case", {"verdict": ["fail"]}, "`verdict`"),
]


@pytest.mark.parametrize(("kind", "changes", "said"), ODD)
def test_what_no_suite_wrote_is_refused(kind: str, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """An odd type, number, name or time in a log is one sentence with the line."""
    path, number = log(tmp_path, kind, **changes)
    with pytest.raises(UsageError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}, line {number}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"event":' * 5000, b"9" * 5000, b"\xed\xa0\x80"])
def test_what_is_no_json_is_refused(text: bytes, tmp_path: Path) -> None:
    """JSON that Python gives up on is one sentence with the line."""
    path, _ = log(tmp_path, "run")
    with path.open("ab") as file:
        file.write(text + b"\n")
    with pytest.raises(UsageError, match=", line 4: "):
        read(path)


@pytest.fixture(name="hostile")
def _hostile(tmp_path: Path) -> Path:
    """Write a log with hostile text in every free text field."""
    free = ("expected", "observed", "reason", "error", "console", "repeat", "deviation")
    words: dict[str, Any] = dict.fromkeys(free, NASTY)
    words |= {"params": {NASTY: NASTY}, "differences": [NASTY], "log": [LINE | {"text": NASTY}]}
    words |= {"tries": [TRY | {"observed": NASTY, "log": [LINE | {"text": NASTY}]}], "flaky": True}
    words |= {"observation": {"steps": {NASTY: NASTY}}, "confirmed_by": [NASTY], "may_show": [NASTY]}
    ground = {"file": NASTY, "row": NASTY, "source": "defect", "reason": NASTY, "commit": NASTY, "subject": NASTY}
    path, _ = log(tmp_path, "case", **words, grounds=[ground | {"link": NASTY, "since": {"mainline": NASTY}}])
    lines = path.read_text().splitlines()
    names = ("spec", "release", "banner", "digest", "machine", "accelerator", "why", "error", "hint", "template")
    kernel = json.loads(lines[1]) | dict.fromkeys(names, NASTY) | {"notes": [NASTY], "package": {NASTY: NASTY}}
    known = json.loads(lines[2]) | {"verdict": "xfail", "name": "other", "id": "redirect/other"}
    skipped = known | {"verdict": "skip", "name": "third", "id": "redirect/third"}
    start = json.loads(lines[0]) | {"command": [NASTY], "suite_commit": NASTY, "tools": {NASTY: NASTY}}
    every = [start, kernel, json.loads(lines[2]), known, skipped]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in every))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_reports_of_a_hostile_log_are_safe(name: str, hostile: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Every report of a hostile log is UTF-8 without control characters other than line feeds."""
    assert main(["report", str(hostile), "--format", name]) == ExitCode.OK
    text = capfdbinary.readouterr().out.decode()
    assert {each for each in text if not each.isprintable()} <= {"\n", "\t"}
    if name == "junit":
        root = ET.fromstring(text)
        assert {each.tag for each in root.iter()} <= {
            "testsuites", "testsuite", "properties", "property", "testcase", "skipped", "error", "failure", "system-out"
        }  # fmt: skip
        lines = "\n".join(each.text or "" for each in root.iter("system-out")).splitlines()
        assert all(line.startswith("[[PROPERTY|") and line.count("[[") == line.count("]]") == 1 for line in lines)
    if name == "ktap":
        assert not [line for line in text.splitlines() if line.strip().startswith(("ok 1 - forged", "# Subtest"))]
    if name == "markdown":
        outside = "".join(text.split("```")[::2])
        assert "<!--" not in outside.replace(r"\<", "")
        assert "](y)" not in outside.replace(r"\]", "")


@pytest.mark.parametrize("command", ["report", "compare", "merge", "history"])
def test_a_malformed_log_is_no_fault_of_the_suite(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every command that reads a log refuses it with its line, with 128 for wrong usage and a hint."""
    path, _ = log(tmp_path, "case", name=NASTY)
    more = {"compare": [str(path)], "merge": ["--output", str(tmp_path / "out")]}.get(command, [])
    assert main([command, str(tmp_path if command == "history" else path), *more]) == ExitCode.BROKEN
    err = capfd.readouterr().err
    assert f"conform: {path}, line 3: `name` cannot be" in err
    assert "  hint: " in err
    assert "fault of the suite" not in err
    assert {each for each in err if not each.isprintable()} == {"\n"}
