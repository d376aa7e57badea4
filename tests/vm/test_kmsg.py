# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.guest.kmsg import KernelLog


class FakeLog:
    """A pipe in packet mode: like /dev/kmsg it gives one record a read and EAGAIN when there is none."""

    def __init__(self, folder: Path) -> None:
        self.reader, self.writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
        self.path = f"/proc/self/fd/{self.reader}"
        self.tainted = folder / "tainted"
        self.tainted.write_text("0\n")

    def say(self, record: str) -> None:
        """Add a record."""
        os.write(self.writer, record.encode())


@pytest.fixture(name="fake")
def _fake(tmp_path: Path) -> Iterator[FakeLog]:
    fake = FakeLog(tmp_path)
    yield fake
    os.close(fake.reader)
    os.close(fake.writer)


def test_a_window_holds_what_was_said_since_the_last(fake: FakeLog) -> None:
    """Each record is in exactly one window, with its sequence number, level and time."""
    log = KernelLog(fake.path, str(fake.tainted))
    fake.say("6,10,5000,-;first\n SUBSYSTEM=net\n")
    fake.say("28,11,5001,-;a \\x22quoted\\x22 warning\n")
    assert log.window()["log"] == [[10, 6, 5000, "first"], [11, 4, 5001, 'a "quoted" warning']]
    assert log.window() == {"before": [], "log": [], "log_complete": True, "taint": 0}


def test_of_a_flood_the_beginning_is_kept(fake: FakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records beyond the limit are only counted, and the window is marked as incomplete."""
    monkeypatch.setattr("vm.guest.kmsg.LINES", 3)
    log = KernelLog(fake.path, str(fake.tainted))
    for number in range(5):
        fake.say(f"6,{number},{number},-;line {number}\n")
    window = log.window()
    assert [line[3] for line in window["log"]] == ["line 0", "line 1", "line 2"]
    assert (window["dropped"], window["log_complete"]) == (2, False)
    monkeypatch.setattr("vm.guest.kmsg.TEXT", 8)
    fake.say("6,6,6,-;12345678\n")
    fake.say("6,7,7,-;9\n")
    window = log.window()
    assert [line[3] for line in window["log"]] == ["12345678"]
    assert window["dropped"] == 1


def marking(fake: FakeLog, monkeypatch: pytest.MonkeyPatch) -> KernelLog:
    """Return a log whose marks come back as records, as the kernel does it."""
    log = KernelLog(fake.path, str(fake.tainted))
    monkeypatch.setattr(log, "_write", lambda mark: fake.say(f"15,0,0,-;{mark}\n"))
    return log


def test_records_before_a_window_are_kept_apart(fake: FakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record above the mark belongs to no window, one below it does; the marks themselves are in neither."""
    log = marking(fake, monkeypatch)
    fake.say("4,1,0,-;late\n")
    log.begin("redirect:run tcp4")
    fake.say("4,2,0,-;own\n")
    window = log.window()
    assert [line[3] for line in window["before"]] == ["late"]
    assert [line[3] for line in window["log"]] == ["own"]
    fake.say("4,3,0,-;later\n")
    assert [line[3] for line in log.window()["log"]] == ["later"]


def test_without_its_mark_a_window_is_all_there_is(fake: FakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel dropped the mark, the window has all records."""
    log = marking(fake, monkeypatch)
    monkeypatch.setattr(log, "_write", lambda mark: None)
    fake.say("4,1,0,-;late\n")
    log.begin("redirect:run tcp4")
    fake.say("4,2,0,-;own\n")
    assert [line[3] for line in log.window()["log"]] == ["late", "own"]


def test_taint_is_reported_once(fake: FakeLog) -> None:
    """A taint bit belongs to the window in which it was set, also when a different one was set before."""
    fake.tainted.write_text("4096\n")
    log = KernelLog(fake.path, str(fake.tainted))
    fake.tainted.write_text(f"{4096 + 512}\n")
    assert log.window()["taint"] == 512
    assert log.window()["taint"] == 0


def test_overwritten_records_make_the_window_incomplete(fake: FakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel says EPIPE, what is left is still read but the window is marked."""
    log = KernelLog(fake.path, str(fake.tainted))
    fake.say("6,99,1,-;survivor\n")
    reads = iter([BrokenPipeError()])
    real = os.read

    def read(descriptor: int, size: int) -> bytes:
        for error in reads:
            raise error
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", read)
    window = log.window()
    assert window["log"] == [[99, 6, 1, "survivor"]]
    assert window["log_complete"] is False
    assert log.window()["log_complete"] is True


def test_an_unreadable_log_is_never_complete(tmp_path: Path) -> None:
    """Without access to the log no window is complete."""
    log = KernelLog(str(tmp_path / "none"), str(tmp_path / "none"))
    assert log.window() == {"before": [], "log": [], "log_complete": False, "taint": 0}
