# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from kernels.kernel import Kernel
from kernels.resolve import resolve
from tests.waiting import wait_until
from vm import shell
from vm.host import LocalAgent
from vm.launch import open_machine, prepare
from vm.machine import CallStatus, MachineInfo, MachineKind, MachineOptions
from vm.session import Session

AGENT = (sys.executable, "-c", "import sys; from vm.guest import agent; agent.main(int(sys.argv[1]))")
INFO = MachineInfo(MachineKind.HOST, "none", "", factor=1.0, boot_seconds=0.0)
OPTIONS = MachineOptions(accelerator="tcg")
BUNDLE = {
    "code": """
import os, time

class Bench:
    def __enter__(self):
        self.file = open("/proc/version")
        return self

    def close(self):
        self.file.close()

    def __exit__(self, *error):
        self.close()

def run(arguments):
    with Bench():
        pass
    return "torn down"
"""
}


def _typed(session: Session, keys: str, folder: Path) -> tuple[int, str]:
    """Type into a shell of the machine; returns its status and what was on the screen."""
    reader, writer = os.pipe()
    os.write(writer, keys.encode())
    os.close(writer)
    path = folder / "screen"
    with open(reader, "rb") as typed, path.open("wb") as screen:
        status = shell.interact(session, "guest", typed.fileno(), screen.fileno())
    return status, path.read_text()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(name="local")
def _local() -> Iterator[Session]:
    """An agent on this host, for tests that need no guest."""
    with contextlib.closing(Session(LocalAgent(AGENT), INFO)) as session:
        session.greet(10.0)
        session.load(BUNDLE)
        yield session


@pytest.fixture(name="subject", scope="module")
def _subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = resolve("debian:6.12")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        prepare(kernel, OPTIONS, BUNDLE, lambda machine: None)
        yield kernel


@pytest.fixture(name="guest")
def _guest(subject: Kernel) -> Iterator[Session]:
    """A clone."""
    with contextlib.closing(open_machine(subject, OPTIONS)) as machine:
        machine.load(BUNDLE)
        yield cast("Session", machine)


def test_a_case_is_left_standing(local: Session) -> None:
    """A held case stops before it closes anything; its process keeps all descriptors open."""
    reply = local.call("code:run", {}, deadline=5.0, hold=True)
    assert (reply.status, reply.value) == (CallStatus.ANSWERED, None)
    (worker,) = _children(cast("LocalAgent", local._body)._process.pid)
    wait_until(lambda: " T " in Path(f"/proc/{worker}/stat").read_text(), "the worker is stopped")
    assert "/proc/version" in {os.readlink(each) for each in Path(f"/proc/{worker}/fd").iterdir()}


@pytest.mark.vm
def test_a_shell_runs_in_the_guest(guest: Session, subject: Kernel, tmp_path: Path) -> None:
    """What is typed runs under the guest's kernel, what it prints comes back, and so does its status."""
    guest.call("code:run", {}, deadline=5.0, hold=True)
    keys = "cat /proc/sys/kernel/osrelease; cat /proc/[0-9]*/stat | grep -c ' T '; echo $((6*7)); exit 3\n"
    status, screen = _typed(guest, keys, tmp_path)
    assert status == 3
    assert subject.release in screen
    assert "\n1\n42\n" in screen


@pytest.mark.vm
def test_a_shell_in_a_kernel_that_dies_shows_its_last_words(guest: Session, tmp_path: Path) -> None:
    """A panic ends the shell with the console on the screen."""
    status, screen = _typed(guest, "echo c > /proc/sysrq-trigger\n", tmp_path)
    assert status == 1
    assert "Kernel panic - not syncing: sysrq triggered crash" in screen
    assert "write_sysrq_trigger" in screen


@pytest.mark.vm
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_attaches_to_the_stopped_kernel(guest: Session, subject: Kernel) -> None:
    """The printed command attaches to the kernel, which continues when gdb detaches."""
    said: list[str] = []
    with shell.debugged(guest, subject, said.append):
        (command,) = (line for line in said if line.startswith("  gdb"))
        words = [*shlex.split(command), "-batch", "-ex", "info registers rip", "-ex", "detach"]
        answer = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert "rip " in answer.stdout, answer
        assert guest.call("code:run", {}, deadline=5.0).value == "torn down"
    assert not Path(command.rpartition(" ")[2].strip("'")).exists()
