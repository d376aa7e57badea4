# SPDX-License-Identifier: GPL-2.0-only
"""Pipes and devices in place of files: no reader blocks on a pipe, or reads a device without end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from common import infile
from common.errors import UsageError
from conformance.compare.sides import is_folder
from conformance.judge import lists
from conformance.nightly import config
from conformance.report.event_types import FinishEvent, RunEvent
from conformance.report.events import NAME, encode, read
from conformance.report.stored_runs import stored_runs
from tests.conformance.conform import reraise

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """Fail a test that blocks."""

    def late(*_: object) -> None:
        raise AssertionError("it still waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(name="pipe")
def _pipe(tmp_path: Path) -> Path:
    """Return a results folder whose log is a pipe without a writer."""
    folder = tmp_path / "results" / "night"
    folder.mkdir(parents=True)
    os.mkfifo(folder / NAME)
    return folder


class TestLogs:
    """The log of a results folder is a file."""

    def test_a_pipe_is_not_waited_for(self, pipe: Path) -> None:
        """A pipe in a folder of results does not block `report` and `history`."""
        told: list[UsageError] = []
        assert not stored_runs(pipe.parent, told.append)
        assert f"cannot read the event log {pipe / NAME}: it is a pipe or a device" in str(*told)
        for attempt in (partial(read, pipe), partial(read, pipe / NAME)):
            with pytest.raises(UsageError, match=f"cannot read the event log {pipe / NAME}: it is a pipe or a device"):
                attempt()

    def test_a_device_is_not_read(self, tmp_path: Path) -> None:
        """/dev/zero in place of a log does not fill the memory."""
        (tmp_path / NAME).symlink_to("/dev/zero")

        with pytest.raises(UsageError, match="it is a pipe or a device"):
            read(tmp_path)

    def test_a_line_without_end(self) -> None:
        """A device that is named is read, but not without end."""
        with pytest.raises(UsageError, match="/dev/zero, line 1: longer than 128 MiB"):
            read(Path("/dev/zero"))

    def test_a_log_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor is a file whose every line is short."""
        monkeypatch.setattr("conformance.report.events._MOST", 3)
        start = RunEvent(started="2026-11-22T20:29:00Z", command=("conform",), selected={})
        (tmp_path / NAME).write_text(f"{encode(start)}\n" + f"{encode(FinishEvent(exit_code=0, seconds=1.0))}\n" * 5)
        with pytest.raises(UsageError, match="line 4: no run has more than 3 events"):
            read(tmp_path)

    def test_the_folder_of_a_comparison(self, tmp_path: Path) -> None:
        """It has two logs, and the hint names them."""
        (tmp_path / "base").mkdir()
        (tmp_path / "base" / NAME).touch()
        with pytest.raises(UsageError, match="cannot read the event log") as caught:
            read(tmp_path)
        assert caught.value.hint == f"{tmp_path} holds a comparison; its runs are {tmp_path}/base and {tmp_path}/head"
        assert is_folder(str(tmp_path))

    def test_a_pipe_that_is_named(self, tmp_path: Path) -> None:
        """`report <(zcat events.jsonl.gz)` is read like a file."""
        os.mkfifo(tmp_path / "pipe")
        writer = subprocess.Popen(["sh", "-c", f"echo x > {tmp_path / 'pipe'}"])
        with writer, pytest.raises(UsageError, match="line 1: not JSON"):
            read(tmp_path / "pipe")

    def test_a_name_that_is_too_long(self) -> None:
        """The sentence has the system's message."""
        with pytest.raises(UsageError, match=r"cannot read the event log x*: File name too long"):
            read(Path("x" * 300))
        with pytest.raises(UsageError, match=r"cannot read the folder x*: File name too long"):
            stored_runs(Path("x" * 300), reraise)


class TestWhatSomebodyWrote:
    """Configurations and lists are small."""

    def test_no_end(self) -> None:
        """A file without an end is refused before it fills the memory."""
        with pytest.raises(OSError, match="it is larger than 1 MiB"):
            infile.small(Path("/dev/zero"))
        with pytest.raises(UsageError, match="cannot read /dev/zero: it is larger than 1 MiB"):
            config.read(Path("/dev/zero"))
        with pytest.raises(UsageError, match=r"the list /dev/zero cannot be read: .*it is larger than 1 MiB"):
            lists.read_lists((), ("/dev/zero",), (), universe=())

    def test_nesting_without_an_end(self, tmp_path: Path) -> None:
        """Brackets that exhaust Python's stack are an error in the TOML."""
        (tmp_path / "deep.toml").write_text("kernels = " + "[" * 5000)

        with pytest.raises(UsageError, match=r"deep\.toml is not TOML: it is nested too deeply"):
            config.read(tmp_path / "deep.toml")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    """A file that we open gets no standard stream's descriptor, and text for one stream is not written to another."""
    code = (
        "import os, subprocess, sys\n"
        "from common import streams\n"
        "streams.fill()\n"
        "print('wrong', file=sys.stderr)\n"
        "assert os.open('/dev/zero', os.O_RDONLY) > 2\n"
        "subprocess.run(['sh', '-c', 'exec 4<&0 5>&1 6>&2'], check=True)\n"
        f"open({str(tmp_path / 'done')!r}, 'x')\n"
    )

    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (tmp_path / "done").exists(), done.stderr
    assert done.stdout == ""
