# SPDX-License-Identifier: GPL-2.0-only
"""Find the stacks of a process's threads, in a fake /proc."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from vm.guest import diagnosis

IN_KERNEL = "[<0>] __lock_sock+0x6f/0xc0\n"


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """A process 7 with a thread that sleeps and one that runs."""
    for thread, stack in (("7", IN_KERNEL), ("8", "")):
        folder = tmp_path / "7" / "task" / thread
        folder.mkdir(parents=True)
        (folder / "stack").write_text(stack)
    return tmp_path


def test_a_thread_that_runs_is_caught_when_it_leaves_its_processor(process: Path) -> None:
    """A running thread has no stack until it leaves its processor."""
    left = threading.Timer(0.1, (process / "7/task/8/stack").write_text, ["[<0>] udp_bpf_recvmsg+0x1/0x2\n"])
    left.start()

    text = diagnosis.stacks(7, str(process))
    left.join()

    assert sorted(text.splitlines()) == [
        "thread 7: [<0>] __lock_sock+0x6f/0xc0",
        "thread 8: [<0>] udp_bpf_recvmsg+0x1/0x2",
    ]


def test_a_thread_that_never_leaves_its_processor_is_not_waited_for(
    process: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stacks of the other threads are returned."""
    monkeypatch.setattr(diagnosis, "LOOK_SECONDS", 0.05)
    begin = time.monotonic()

    assert diagnosis.stacks(7, str(process)) == "thread 7: [<0>] __lock_sock+0x6f/0xc0"
    assert time.monotonic() - begin >= diagnosis.LOOK_SECONDS


def test_a_process_that_is_gone_has_no_threads(process: Path) -> None:
    """A process that is gone gives no stacks and no exception."""
    assert diagnosis.stacks(9, str(process)) == ""
