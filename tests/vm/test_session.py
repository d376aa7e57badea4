# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import KernelError
from tests.waiting import wait_until
from vm.death import PANIC
from vm.guest.frames import Channel, encode
from vm.host import LocalAgent, NoGuest
from vm.machine import CallStatus, MachineInfo, MachineKind
from vm.patience import SQUEEZED, STARVED, Patience
from vm.session import Session

AGENT = (sys.executable, "-c", "import sys; from vm.guest import agent; agent.main(int(sys.argv[1]))")
INFO = MachineInfo(MachineKind.HOST, "none", "", factor=1.0, boot_seconds=0.0)
CODE = """
import os, signal, threading, time
from guestlib.inner import double

def echo(arguments):
    return {"pid": os.getpid(), **arguments}

def twice(arguments):
    return double(arguments["n"])

def fail(arguments):
    raise ValueError("no such cell")

def set_(arguments):
    return {1, 2}

def hang(arguments):
    signal.pause()

def nap(arguments):
    time.sleep(arguments["seconds"])

def die(arguments):
    os.kill(os.getpid(), signal.SIGSEGV)

def leave(arguments):
    raise SystemExit(3)

def leave_thread(arguments):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return os.getppid()

def offspring(arguments):
    child = os.fork()
    if not child:
        signal.pause()
    return child
"""
BUNDLE = {"code": CODE, "guestlib.inner": "def double(n):\n    return 2 * n\n"}


@pytest.fixture(name="session")
def _session() -> Iterator[Session]:
    session = Session(LocalAgent(AGENT), INFO)
    with contextlib.closing(session):
        session.greet(10.0)
        session.load(BUNDLE)
        yield session


def test_a_function_is_called_with_its_arguments(session: Session) -> None:
    """The value comes back as it was returned, and one worker serves many calls."""
    first = session.call("code:echo", {"in": "tcp4"}, deadline=5.0)
    second = session.call("code:echo", {"in": "tcp4"}, deadline=5.0)
    assert first.status is CallStatus.ANSWERED
    assert first.value["in"] == "tcp4"
    assert first.value == second.value
    assert 0 < first.seconds < 5


def test_each_clone_is_given_its_own_clock_and_seed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a clone's greeting has the host's time and 32 random bytes, never the same ones: others keep theirs."""
    asked: list[dict[str, Any]] = []

    def ask(request: dict[str, Any], *_: object) -> SimpleNamespace:
        asked.append(request)
        return SimpleNamespace(modules={}, vmcoreinfo=(), release="")

    monkeypatch.setattr(session, "_ask", ask)
    begin = time.time()
    for clock in (False, True, True):
        session.greet(1.0, clock=clock)
    assert asked[0] == {"op": "hello"}
    assert all(begin <= request["clock"] <= time.time() for request in asked[1:])
    first, second = (bytes.fromhex(request["seed"]) for request in asked[1:])
    assert len(first) == len(second) == 32
    assert first != second


def test_packages_without_init_are_packages(session: Session) -> None:
    """A bundle need not carry the `__init__` of each package."""
    assert session.call("code:twice", {"n": 21}, deadline=5.0).value == 42


@pytest.mark.parametrize(
    ("function", "words"),
    [("fail", "no such cell"), ("set_", "not JSON serializable"), ("leave", "SystemExit: 3"), ("none", "no attribute")],
)
def test_an_exception_is_data(session: Session, function: str, words: str) -> None:
    """An exception, or a result that is not JSON, comes back as a traceback with its source line."""
    reply = session.call(f"code:{function}", {}, deadline=5.0)
    assert reply.status is CallStatus.RAISED
    assert words in reply.error
    assert session.usable
    assert session.call("code:twice", {"n": 1}, deadline=5.0).value == 2


def test_a_reply_without_a_kernel_log_says_so(session: Session) -> None:
    """An answer without a window of the kernel log says so, and the next one has its window again."""
    session.drain()
    assert not session.call("code:echo", {}, deadline=5.0, watch=False).log_complete
    assert session.call("code:echo", {}, deadline=5.0).log_complete


def test_tracebacks_show_the_source(session: Session) -> None:
    """Tracebacks quote guest code, although it was sent as text."""
    assert 'raise ValueError("no such cell")' in session.call("code:fail", {}, deadline=5.0).error


def test_a_dead_worker_is_data_and_is_replaced(session: Session) -> None:
    """The error of a killed worker names the signal, and the next call has another worker."""
    before = session.call("code:echo", {}, deadline=5.0).value["pid"]
    reply = session.call("code:die", {}, deadline=5.0)
    assert (reply.status, reply.error) == (CallStatus.RAISED, "the worker died of SIGSEGV")
    assert session.call("code:echo", {}, deadline=5.0).value["pid"] != before


def test_an_overrun_kills_the_worker_and_its_children(session: Session) -> None:
    """A call that does not return in time is OVERRAN, with its kernel stack, and none of its processes runs on."""
    pid = session.call("code:echo", {}, deadline=5.0).value["pid"]
    child = session.call("code:offspring", {}, deadline=5.0).value
    reply = session.call("code:hang", {}, deadline=0.1)
    assert reply.status is CallStatus.OVERRAN
    assert reply.seconds < 2
    assert not session.usable
    assert not _alive(pid)
    _await_death(child)


def test_a_thread_that_goes_on_does_not_keep_the_agent_from_answering(session: Session) -> None:
    """If a spinning thread holds the agent's processor, the agent moves to another one."""
    agent = session.call("code:leave_thread", {}, deadline=5.0)
    assert agent.status is CallStatus.ANSWERED
    assert not session.usable
    assert len(os.sched_getaffinity(agent.value)) == 1


def test_only_changed_modules_travel(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second load sends changed modules, drops removed ones, and the new code runs."""
    sent = []
    ask = session._ask

    def spy(request: dict[str, Any], patience: float, read: Callable[[dict[str, Any]], Any]) -> Any:
        sent.append(request)
        return ask(request, patience, read)

    monkeypatch.setattr(session, "_ask", spy)
    session.load(BUNDLE)
    assert sent == []
    session.load({**BUNDLE, "guestlib.inner": "def double(n):\n    return 3 * n\n"})
    assert list(sent[0]["sources"]) == ["guestlib.inner"]
    assert session.call("code:twice", {"n": 1}, deadline=5.0).value == 3
    session.load({"code": "def gone(arguments):\n    import guestlib\n"})
    assert "No module named 'guestlib'" in session.call("code:gone", {}, deadline=5.0).error


def test_a_clock_of_the_guest_that_stands_still() -> None:
    """A case that ends is answered, and one that does not is over by the host's clock; so is the machine."""
    still = "import time; now = time.monotonic(); time.monotonic = lambda: now; time.time = lambda: 0.0; "
    session = Session(LocalAgent((*AGENT[:-1], still + AGENT[-1])), INFO)
    with contextlib.closing(session):
        session.greet(10.0)
        session.calibrate(0.0)
        session.load(BUNDLE)
        assert session.info.factor == 1.0
        assert session.call("code:twice", {"n": 4}, deadline=5.0).value == 8

        begin = time.monotonic()
        reply = session.call("code:nap", {"seconds": 600}, deadline=0.5)

        assert reply.status is CallStatus.OVERRAN
        assert time.monotonic() - begin < 30
        assert not session.usable


def test_nothing_survives_close() -> None:
    """Closing ends agent, worker and the worker's children, and may be done twice."""
    session = Session(LocalAgent(AGENT), INFO)
    session.greet(10.0)
    session.load(BUNDLE)
    pids = [session.call("code:echo", {}, deadline=5.0).value["pid"]]
    pids.append(session.call("code:offspring", {}, deadline=5.0).value)
    session.close()
    session.close()
    for pid in pids:
        _await_death(pid)


class FakeBody(NoGuest):
    """A process that will die, with its last output."""

    def __init__(self, words: str) -> None:
        self.control, self.guest = socket.socketpair()
        self.process = subprocess.Popen(["sleep", "60"])
        self.exited = os.pidfd_open(self.process.pid)
        self._words = words
        self.share = 0.0
        """Of each second it waits for a processor."""
        self.other = 0.0
        """Of each second another of its threads does."""
        self.swapped = self.read = 0
        """How often it waits for memory between two readings, and their number."""

    def starved(self) -> tuple[float, float]:
        """Return the seconds it has waited."""
        return self.share * time.monotonic(), (self.share + self.other) * time.monotonic()

    def faults(self) -> int:
        """Return how often it has waited for memory; the process must not have been reaped."""
        self.read += 1
        return self.swapped * self.read

    def console(self) -> str:
        """Return the last output."""
        return self._words

    def printed(self) -> int:
        """Return its length."""
        return len(self._words)

    def failure(self) -> str:
        """Return QEMU's."""
        return "qemu: bad luck"

    def close(self) -> None:
        """End it."""
        if self.exited >= 0:
            self.process.kill()
            self.process.wait()
            os.close(self.exited)
            self.exited = -1
            self.control.close()
            self.guest.close()


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        ("[ 1.0] BUG: x\n[ 1.1] Kernel panic - not syncing: Fatal exception\n", CallStatus.PANICKED, "Fatal exception"),
        ("some words\n", CallStatus.LOST, "some words"),
        ("", CallStatus.LOST, "qemu: bad luck"),
    ],
)
def test_a_machine_that_exits_is_data(words: str, status: CallStatus, error: str) -> None:
    """The console distinguishes a panic from a loss; the reply has its tail."""
    body = FakeBody(words)
    session = Session(body, INFO)
    body.process.kill()
    reply = session.call("m:f", {}, deadline=5.0)
    assert reply.status is status
    assert error in reply.error
    assert reply.console == words
    assert not reply.log_complete
    assert not session.usable


def test_a_silent_machine_overruns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that neither answers nor dies is killed after deadline and grace."""
    monkeypatch.setattr("vm.session.GRACE", 0.05)
    body = FakeBody("")
    session = Session(body, INFO)
    reply = session.call("m:f", {}, deadline=0.05)
    assert reply.status is CallStatus.OVERRAN
    assert body.process.returncode == -signal.SIGKILL


def test_a_starved_machine_has_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the host runs a machine a tenth of the time, its deadline is ten times as long."""
    monkeypatch.setattr("vm.session.GRACE", 0.05)
    body = FakeBody("")
    body.share = 0.9
    reply = Session(body, INFO).call("m:f", {}, deadline=0.05)
    assert reply.status is CallStatus.OVERRAN
    assert 0.9 < reply.seconds < 60


def test_a_machine_that_never_ran_is_no_hung_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the host does not run a machine at all, the wait ends, and the host is blamed."""
    monkeypatch.setattr("vm.session.GRACE", 0.01)
    monkeypatch.setattr("vm.patience.CEILING", 8)
    body = FakeBody("")
    body.share = body.other = 1.0
    reply = Session(body, INFO).call("m:f", {}, deadline=0.01)
    assert (reply.status, reply.host_fault) == (CallStatus.LOST, STARVED)


@pytest.mark.parametrize(("faults", "blamed"), [(100, False), (5000, True)])
@pytest.mark.parametrize("how", ["exits", "closes"])
@pytest.mark.parametrize(
    ("words", "status"),
    [(f"[  130.7] {PANIC}: Fatal exception in interrupt", CallStatus.PANICKED), ("", CallStatus.LOST)],
)
def test_a_death_without_memory_is_the_hosts(
    words: str, status: CallStatus, how: str, faults: int, blamed: bool
) -> None:
    """A kernel that dies while the host takes its memory away, again and again, proves nothing; else it does."""
    body = FakeBody(words)
    body.swapped = faults
    if how == "exits":
        body.process.kill()
    else:
        body.guest.close()
    reply = Session(body, INFO).call("m:f", {}, deadline=5.0)
    assert reply.status is status
    assert reply.host_fault == (SQUEEZED.format(faults) if blamed else "")


@pytest.mark.parametrize(
    ("share", "seconds", "status"), [(0.95, 1.0, CallStatus.ANSWERED), (0.5, 60.0, CallStatus.OVERRAN)]
)
def test_the_agent_asks_whether_it_was_starved(
    session: Session, monkeypatch: pytest.MonkeyPatch, share: float, seconds: float, status: CallStatus
) -> None:
    """After the agent's deadline, the time that the host did not run it is added, and only that."""
    monkeypatch.setattr(session._body, "starved", lambda: (share * time.monotonic(),) * 2)
    reply = session.call("code:nap", {"seconds": seconds}, deadline=0.2)
    assert reply.status is status
    assert reply.seconds < 60


def test_what_arrived_too_late_to_be_waited_for_is_read(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that came in time counts, even if it is read after the deadline."""
    send = session._send

    def send_and_stall(request: dict[str, Any], wait: Patience) -> None:
        send(request, wait)
        # The answer is there, and is read late.
        select.select([session._body.control], [], [], 60)
        wait_until(lambda: wait.left <= 0, "the wait is over")

    monkeypatch.setattr("vm.session.GRACE", 0.1)
    monkeypatch.setattr(session, "_send", send_and_stall)
    assert session.call("code:echo", {"n": 1}, deadline=0.2).status is CallStatus.ANSWERED


def test_a_guest_that_never_stops_talking_overruns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that sends frames without an answer is ended at its deadline."""
    monkeypatch.setattr("vm.session.GRACE", 0.05)
    body = FakeBody("")
    noise = encode({"id": 0}) * 1000

    def talk() -> None:
        with contextlib.suppress(OSError):
            while True:
                body.guest.sendall(noise)

    threading.Thread(target=talk, daemon=True).start()
    reply = Session(body, INFO).call("m:f", {}, deadline=0.05)
    assert reply.status is CallStatus.OVERRAN
    assert reply.seconds < 60


def test_deadlines_follow_the_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine four times slower the guest is given four times as long."""
    monkeypatch.setattr("vm.session.GRACE", 0.01)
    body = FakeBody("")
    session = Session(body, MachineInfo(MachineKind.CLONE, "tcg", "", factor=4.0, boot_seconds=0.0))
    begin = time.monotonic()
    peer = body.guest.dup()
    session.call("m:f", {}, deadline=0.05)
    assert time.monotonic() - begin >= 0.2
    request = Channel(peer.detach()).receive()
    assert request is not None
    assert request["deadline"] == pytest.approx(0.2)


@pytest.mark.parametrize(("factor", "seconds"), [(1.0, 1.1), (4.0, 4.4), (20.0, 2.0 + 8.0)])
def test_a_hung_kernel_is_found_out_soon(monkeypatch: pytest.MonkeyPatch, factor: float, seconds: float) -> None:
    """Beyond its deadline an agent has a second that is as slow as its machine, but eight by the clock at most."""
    waits: list[float] = []

    def wait(seconds: float, *starved: object) -> Patience:
        waits.append(seconds)
        return Patience(0.0)

    monkeypatch.setattr("vm.session.Patience", wait)
    session = Session(FakeBody(""), MachineInfo(MachineKind.CLONE, "tcg", "", factor=factor, boot_seconds=0.0))
    assert session.call("m:f", {}, deadline=0.1).status is CallStatus.OVERRAN
    assert waits[0] == pytest.approx(seconds)


def test_nonsense_from_the_guest_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that answers with rubbish is lost."""
    monkeypatch.setattr("vm.session.GRACE", 0.05)
    body = FakeBody("")
    body.guest.send(b"\xff" * 64)
    with pytest.raises(KernelError, match="the guest died"):
        Session(body, INFO).load({"a": ""})


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _await_death(pid: int) -> None:
    wait_until(lambda: not _alive(pid), f"{pid} is gone", patience=5.0)
