# SPDX-License-Identifier: GPL-2.0-only
"""The event log: a log is read as it was written, and damage is refused or cut off."""

from __future__ import annotations

import functools
import gc
import json
import math
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import HostError, UsageError
from conformance.model import Verdict
from conformance.report.event_types import Event, FinishEvent, KernelEvent
from conformance.report.events import NAME, EventLog, Run, decode, encode, interrupted, read
from tests.conformance import report_runs

ROOT = Path(__file__).resolve().parents[2]


def events(run: Run) -> Iterator[Event]:
    """List the events of a run."""
    yield run.start
    for slug, kernel in run.kernels.items():
        yield kernel
        yield from run.cases.get(slug, ())
    if run.finish:
        yield run.finish


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Path:
    """Write the log of a run with failures."""
    path = tmp_path / "results" / NAME
    with EventLog(path) as log:
        for event in events(report_runs.sick()):
            log.write(event)
    return path


@pytest.mark.parametrize("name", report_runs.RUNS)
def test_reading_a_log_gives_back_the_run(name: str, tmp_path: Path) -> None:
    """A run is read back unchanged, by the name of the log or of its folder."""
    run = report_runs.RUNS[name]()
    with EventLog(tmp_path / NAME) as log:
        for event in events(run):
            log.write(event)
    again = read(tmp_path)
    assert (again.start, again.kernels, again.finish) == (run.start, run.kernels, run.finish)
    assert again.cases == {slug: cases for slug, cases in run.cases.items() if cases}


def test_foreign_text_is_one_ascii_line() -> None:
    """Any console text is one line of ASCII and is read back; an invalid byte comes back escaped."""
    foreign = "a\n\x1b[2J\u2028…\U0001f600\\ud800\\"
    event = replace(report_runs.sick().unexpected()[0], console=f"{foreign}\udcff{foreign}")
    line = encode(event)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["console"].encode().decode() == f"{foreign}\\udcff{foreign}"
    assert decode(line) == replace(event, console=f"{foreign}\\udcff{foreign}")


def test_values_that_only_python_writes_are_valid_json() -> None:
    """NaN in a guest's answer does not break the log, and such a line of an older suite can be read."""
    event = replace(report_runs.sick().unexpected()[0], observation={"waited": math.nan, "name": "NaN \udcff"})
    line = encode(event)
    assert "NaN," not in line
    older = json.dumps({"event": "case", **json.loads(line)} | {"observation": event.observation})
    assert "NaN," in older
    for each in (line, older):
        assert decode(each) == replace(event, observation={"waited": "NaN", "name": "NaN \\udcff"})


def test_a_log_of_an_older_or_newer_suite_is_read(log: Path) -> None:
    """A field that an older suite did not write has its default, and one that a newer suite writes is ignored."""
    case, *_ = read(log).cases["debian-6.12"]
    line = json.loads(encode(case))
    older = {name: value for name, value in line.items() if name not in ("tries", "confirmed_by", "at")}
    newer = line | {"mood": {"since": [7.5]}, "grounds": [ground | {"page": 7} for ground in line["grounds"]]}
    assert decode(json.dumps(older)) == decode(json.dumps(newer)) == case


@functools.cache
def _few() -> tuple[str, ...]:
    """Return a log that shows each kind of event, with a case that has something in most of its fields."""
    run = report_runs.planted()
    case = next(case for slug in run.slugs for case in run.cases[slug] if case.tries and case.grounds)
    finish = FinishEvent(exit_code=1, seconds=1.0)
    return tuple(encode(each) for each in (run.start, run.kernels[case.kernel], case, finish))


_ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_JSON = st.recursive(_ATOMS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 16), st.integers(0, 80))
def test_any_bytes_give_a_run_or_a_sentence(junk: bytes, place: int, length: int) -> None:
    """Reading a log with any bytes gives a run, or one sentence that names the wrong line."""
    sound = "".join(f"{line}\n" for line in _few()).encode()
    depth, place = place, place % len(sound)
    for content in (junk, sound[:place] + junk + sound[place + length :], b'{"x":' + b"[" * depth + junk + b"\n"):
        _read_or_refused(content)


@settings(max_examples=100, deadline=None)
@given(_JSON, st.integers(0, 3), st.integers(0, 40))
def test_any_value_gives_a_run_or_a_sentence(value: object, number: int, field: int) -> None:
    """Reading a log with any value in any field gives a run, or one sentence that names the wrong line."""
    lines = [json.loads(line) for line in _few()]
    lines[number][sorted(lines[number])[field % len(lines[number])]] = value
    _read_or_refused("".join(f"{json.dumps(each)}\n" for each in lines).encode())


def _read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(content)
        try:
            run = read(path)
        except UsageError as error:
            said = str(error)
        else:
            said = f"{path}, line 0: " + "".join(map(encode, events(run)))[:100]
    assert re.match(rf"{re.escape(str(path))}, line \d+: .", said)
    assert len(said) < 500


def test_reading_costs_a_few_calls_a_line(tmp_path: Path) -> None:
    """Reading calls no Python code per field and no garbage collection: 20,000 cases take half a second."""
    run = report_runs.sick()
    written: list[Event] = [run.start, *(case for _ in range(5) for case in run.cases["debian-6.12"])]
    with EventLog(tmp_path / NAME) as log:
        for event in written:
            log.write(event)
    lines = (tmp_path / NAME).read_bytes().count(b"\n")
    calls = collections = 0

    def called(*_: object) -> None:
        nonlocal calls
        calls += 1

    def collected(phase: str, _: object) -> None:
        nonlocal collections
        collections += phase == "start"

    before = sys.getprofile()
    gc.collect()
    gc.callbacks.append(collected)
    sys.setprofile(called)
    try:
        again = read(tmp_path)
    finally:
        sys.setprofile(before)
        gc.callbacks.remove(collected)
    assert again.cases["debian-6.12"] == run.cases["debian-6.12"]
    assert calls < 40 * lines
    assert collections <= len(("once enabled again",))
    assert gc.isenabled()


def test_a_cut_last_line_is_left_off(log: Path) -> None:
    """Wherever a log is cut within its last line, every line before is read and the run counts as killed."""
    *lines, last = log.read_bytes().splitlines(keepends=True)[-3:]
    first = log.read_bytes().splitlines(keepends=True)[0]
    for cut in range(len(last)):
        log.write_bytes(b"".join([first, *lines, last[:cut]]))
        run = read(log)
        assert run.finish is None
        assert interrupted(run)
        assert list(run.kernels) == ["debian-5.10"]
        assert len(run.cases["debian-6.12"]) == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda line: line[:-1], "not JSON"),
        (lambda line: "[1]", "not an event"),
        (lambda line: line.replace('"event":"case"', '"event":"cake"'), "not an event"),
        (lambda line: line.replace('"event":', '"happening":'), "not an event: .* `event`"),
        (lambda line: line.replace('"name":', '"title":', 1), "missing required field `name`"),
        (lambda line: line.replace('"verdict":"pass"', '"verdict":"fine"'), "fine"),
        (lambda line: line.replace('"verdict":"pass"', r'"verdict":"\n\u001b[2J"'), r"'\\n\\x1b\[2J'"),
        (lambda line: line.replace('"seconds":0.017', '"seconds":"long"'), "`seconds`: expected `float`, got `str`"),
        (
            lambda line: line.replace('"differences":[]', '"differences":[1]'),
            r"`differences\[0\]`: expected `str`",
        ),
        (lambda line: line.replace('"log":[]', '"log":[{"level":4}]'), r"`log\[0\]`: .* `text`"),
        (lambda line: "", "not JSON"),
    ],
)
def test_a_damaged_line_is_refused(log: Path, damage: object, said: str) -> None:
    """Any line but a cut last one must be an event, and the sentence names the line and what is wrong."""
    assert callable(damage)
    lines = log.read_text().splitlines()
    damaged = damage(lines[3])
    assert damaged != lines[3]
    log.write_text("\n".join([*lines[:3], damaged, *lines[4:]]) + "\n")
    with pytest.raises(UsageError, match=said) as refused:
        read(log)
    assert f"{log}, line 4:" in str(refused.value)
    assert refused.value.hint


def test_another_schema_is_refused(log: Path) -> None:
    """A log of an unknown schema is refused."""
    log.write_text(log.read_text().replace('"schema":1', '"schema":2', 1))
    with pytest.raises(UsageError, match="line 1: schema 2; this suite reads schema 1"):
        read(log)


@pytest.mark.parametrize("text", ["", '{"event":"finish","exit_code":0,"seconds":1.0}\n'])
def test_a_log_without_its_beginning_is_refused(tmp_path: Path, text: str) -> None:
    """A file that does not begin with a run is not a log."""
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UsageError, match="does not begin with a `run` event"):
        read(tmp_path)


def test_a_missing_log_is_a_usage_error(tmp_path: Path) -> None:
    """A path without a log is one sentence with a hint."""
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "nothing")


def test_an_unwritable_log_is_a_host_error(tmp_path: Path) -> None:
    """A results directory that cannot be made is one sentence with a hint."""
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write the event log"):
        EventLog(tmp_path / "file" / NAME)


def test_a_full_disk_is_a_host_error() -> None:
    """A line that cannot be stored is an error."""
    log = EventLog(Path("/dev/full"))
    with log, pytest.raises(HostError, match="No space left"):
        log.write(report_runs.START)


def test_a_killed_writer_leaves_every_line(tmp_path: Path) -> None:
    """After SIGKILL the log holds everything that was written to it."""
    script = (
        "import os, signal, pathlib, sys\n"
        "from conformance.report.events import EventLog\n"
        "from tests.conformance.report_runs import KERNEL_6_12, START\n"
        "log = EventLog(pathlib.Path(sys.argv[1]))\n"
        "log.write(START)\n"
        "log.write(KERNEL_6_12)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / NAME
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read(path).kernels == {"debian-6.12": report_runs.KERNEL_6_12}


def test_a_new_run_replaces_an_old_log(log: Path) -> None:
    """A results directory that is used again holds the new run only."""
    with EventLog(log) as again:
        again.write(report_runs.START)
    assert read(log).kernels == {}


def test_a_later_kernel_line_replaces_the_earlier() -> None:
    """After a fallback a kernel is what its last line says, in its first place."""
    cold = replace(report_runs.KERNEL_6_12, machine="cold", why="clones do not work here")
    run = Run.of([report_runs.START, report_runs.KERNEL_6_12, report_runs.KERNEL_5_10, cold])
    assert list(run.kernels.values()) == [cold, report_runs.KERNEL_5_10]


def test_cases_that_never_ran_are_missed() -> None:
    """What was selected and came to no verdict is counted, for one kernel and for all."""
    run = report_runs.healthy()
    assert run.unseen() == 0
    del run.cases["debian-6.12"][-3:]
    run.start = replace(run.start, selected={**run.start.selected, "tree": 5})
    assert (run.unseen(), run.unseen("debian-6.12"), run.unseen("tree")) == (8, 3, 5)
    assert run.slugs == ("debian-6.12", "tree")
    assert run.kernel("tree") == KernelEvent(spec="tree", slug="tree")


def test_counts_and_unexpected_cases() -> None:
    """Verdicts are counted as they are, and whatever forbids exit code 0 is unexpected."""
    run = report_runs.sick()
    assert run.counts()[Verdict.SKIP] == 92
    assert {case.verdict for case in run.unexpected()} == {Verdict.FAIL, Verdict.HANG, Verdict.SPLAT}


def test_a_kernel_takes_from_its_first_request_to_its_last_verdict() -> None:
    """Cases that ran side by side count once; without a clock the sum over the cases is all there is."""
    run = report_runs.healthy()
    first, second, third = run.cases["debian-6.12"][:3]
    run.cases["debian-6.12"] = [replace(first, seconds=2.0), replace(second, seconds=3.0), replace(third, seconds=1.0)]
    assert run.seconds("debian-6.12") == pytest.approx(6.0)
    times = (12.0, 13.0, 14.5)
    run.cases["debian-6.12"] = [replace(case, at=at) for case, at in zip(run.cases["debian-6.12"], times, strict=True)]
    assert run.seconds("debian-6.12") == pytest.approx(4.5)
    assert run.seconds("another") == 0.0


def test_every_key_is_always_present(log: Path) -> None:
    """A reader in another language needs no defaults: all lines of a kind have the same keys."""
    kinds: dict[str, set[str]] = {}
    for line in log.read_text().splitlines():
        values = json.loads(line)
        assert kinds.setdefault(values["event"], set(values)) == set(values)
    assert set(kinds) == {"run", "kernel", "case", "finish"}


def test_a_title_has_no_paths() -> None:
    """Of the files a spec names, a reader wants the names; a tree is known by its path."""
    spec = "tree:../linux@v7.3,patch=../deep/down/fix.patch,patch=more.patch,config=../a/b.config,preset=fast"
    title = "tree:../linux@v7.3,patch=fix.patch,patch=more.patch,config=b.config,preset=fast"
    assert KernelEvent(spec=spec, slug="linux").title == title
