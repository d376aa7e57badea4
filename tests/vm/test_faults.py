# SPDX-License-Identifier: GPL-2.0-only
"""Every fault of a machine during a call gets the right status, and the next machine is sound."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from kernels.kernel import Kernel
from kernels.resolve import resolve
from tests.waiting import wait_until
from vm.guest.frames import encode
from vm.launch import open_machine, prepare
from vm.machine import SOCKMAP_PATHS, CallStatus, Evidence, Machine, MachineOptions, Reply
from vm.patience import EXTENSION_LIMIT
from vm.qemu import Qemu
from vm.session import CALIBRATION_REFERENCE, Session

pytestmark = pytest.mark.vm

OPTIONS = MachineOptions(accelerator="tcg", preload=("fuse", "dm_mod"))
DEADLINE = 0.3
"""Short, so that hangs cost little; scaled by the machine's factor like any."""

REPLACEMENT = 1.0
"""Seconds until a new machine has answered: of processor time, so that other load does not matter."""

CROWD = 15

BUNDLE = {"sick": (Path(__file__).parent / "sick.py").read_text()}
"""Guest code that breaks a machine, one function for each way."""


@pytest.fixture(name="subject", scope="module")
def _subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a template in a cache of the module's own."""
    kernel = resolve("debian:6.12")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        prepare(kernel, OPTIONS, BUNDLE, _assert_sound)
        yield kernel


@pytest.fixture(name="opened")
def _opened(subject: Kernel) -> Iterator[Callable[[], Session]]:
    """Open machines that are closed with the test."""
    with contextlib.ExitStack() as stack:

        def opened() -> Session:
            machine = cast("Session", stack.enter_context(contextlib.closing(open_machine(subject, OPTIONS))))
            machine.load(BUNDLE)
            return machine

        yield opened


@pytest.fixture(name="machine")
def _machine(opened: Callable[[], Session]) -> Session:
    return opened()


@pytest.fixture(name="next_is_sound", autouse=True)
def _next_is_sound(opened: Callable[[], Session], machine: Session) -> Iterator[None]:
    """After each test the machine can be ended, leaves no process, and the next one answers within a second."""
    pid = _qemu(machine).process.pid
    yield
    begin = time.process_time()
    machine.close()
    assert not Path(f"/proc/{pid}").exists()
    successor = opened()
    _assert_sound(successor)
    assert time.process_time() - begin + _processor_seconds(successor) < REPLACEMENT


def _assert_sound(machine: Machine) -> None:
    reply = machine.call("sick:echo", {"n": 1}, deadline=5.0)
    assert (reply.status, reply.value) == (CallStatus.ANSWERED, {"n": 1}), reply


def _qemu(machine: Session) -> Qemu:
    return cast("Qemu", machine._body)


def _processor_seconds(machine: Session) -> float:
    fields = Path(f"/proc/{_qemu(machine).process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _while_it_runs(machine: Session, action: Callable[[], None], **options: Any) -> Reply:
    """Call a function that never returns, and do something to the machine once it has begun."""

    def run_later() -> None:
        wait_until(lambda: "the case has begun" in _qemu(machine).console(), "the case runs")
        action()

    striker = threading.Thread(target=run_later)
    striker.start()
    reply = machine.call("sick:hang", {}, deadline=DEADLINE, **options)
    striker.join()
    return reply


def test_a_killed_qemu_is_a_loss_that_names_the_signal(machine: Session) -> None:
    """QEMU killed from outside in the middle of a call is LOST, not a panic of the kernel."""
    reply = _while_it_runs(machine, _qemu(machine).process.kill)
    assert reply.status is CallStatus.LOST
    assert "QEMU was killed by SIGKILL" in reply.error
    assert reply.seconds < DEADLINE * machine.info.factor


def test_a_stopped_qemu_is_a_loss_and_is_killed(machine: Session) -> None:
    """A QEMU stopped by SIGSTOP is killed at the deadline, and its kernel is not reported as hung."""
    process = _qemu(machine).process
    reply = _while_it_runs(machine, lambda: process.send_signal(signal.SIGSTOP))
    assert reply.status is CallStatus.LOST
    assert "QEMU is stopped" in reply.error
    assert process.returncode == -signal.SIGKILL


def _talking(content: bytes) -> socket.socket:
    """Return a socket that gets `content` and is then closed."""
    ours, theirs = socket.socketpair()

    def talk() -> None:
        with theirs, contextlib.suppress(OSError):
            theirs.recv(1 << 16)
            theirs.sendall(content)

    threading.Thread(target=talk, daemon=True).start()
    return ours


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (b"Segmentation fault\n", "53 65 67"),
        (os.urandom(10 << 20), "makes no sense"),
        (b"\xf5\x0a\x00\x00\x00\x04null", "makes no sense"),
        (encode({"id": 3, "status": "enlightenment"}), "enlightenment"),
    ],
    ids=["text", "noise", "no-object", "no-status"],
)
def test_garbage_on_the_channel_is_a_loss_at_once(machine: Session, noise: bytes, words: str) -> None:
    """Bytes that are not frames, or no answer, give one sentence, without waiting for the deadline."""
    other, machine._body.control = machine._body.control, _talking(noise)
    machine._count = 2
    with other:
        reply = machine.call("sick:hang", {}, deadline=5.0)
    assert reply.status is CallStatus.LOST
    assert words in reply.error
    assert "\n" not in reply.error
    assert reply.seconds < 5


def test_a_channel_cut_in_a_frame_is_a_loss(machine: Session) -> None:
    """Half an answer and then the end of the stream is not an answer."""
    other, machine._body.control = machine._body.control, _talking(encode({})[:-1])
    with other:
        reply = machine.call("sick:echo", {}, deadline=5.0)
    assert reply.status is CallStatus.LOST
    assert "in the middle of a frame" in reply.error
    assert not machine.usable


def test_no_case_has_the_priority_of_an_answer(machine: Session) -> None:
    """A worker answers above the agent, but each case, and what it starts, runs below it like any process."""
    assert [machine.call("sick:tell_priority", {}, deadline=5.0).value for _ in range(3)] == [[os.SCHED_OTHER] * 2] * 3


def test_a_thread_left_behind_spends_the_machine(machine: Session) -> None:
    """A case answers although one of its threads is stuck; the next case gets another machine."""
    assert machine.call("sick:echo", {}, deadline=5.0).status is CallStatus.ANSWERED
    assert machine.usable
    assert machine.call("sick:leave_a_thread", {}, deadline=5.0).status is CallStatus.ANSWERED
    assert not machine.usable


def test_a_dead_agent_is_a_loss_that_names_the_signal(machine: Session) -> None:
    """A case that kills the agent loses its machine at once, and init says what killed it."""
    reply = machine.call("sick:kill_agent", {}, deadline=5.0)
    assert reply.status is CallStatus.LOST
    assert "the agent died of SIGKILL" in reply.error
    assert reply.seconds < 5


def test_a_stopped_agent_gives_the_stack_of_the_kernel(machine: Session) -> None:
    """If the agent is silent, an NMI makes the kernel print its stack; that panic is ours, the status is OVERRAN."""
    reply = machine.call("sick:freeze_agent", {}, deadline=DEADLINE)
    assert reply.status is CallStatus.OVERRAN
    assert "the guest does not answer" in reply.error
    assert "it was at 00" in reply.error
    assert "Call Trace:" in reply.console


def test_a_worker_that_cannot_be_killed_is_overrun_with_backtraces(machine: Session) -> None:
    """A thread that SIGKILL cannot end is named; the stacks of all blocked tasks are in the log window."""
    reply = machine.call("sick:never_wake", {}, deadline=DEADLINE)
    assert reply.status is CallStatus.OVERRAN
    assert "it cannot be killed" in reply.error
    assert re.search(r"thread \d+: \[<0>\] request_wait_answer", reply.error), reply.error
    text = "\n".join(line.text for line in reply.log)
    assert "Show Blocked State" in text
    assert "request_wait_answer" in text
    assert "Show Blocked State" in reply.console
    assert not machine.usable


def test_a_worker_out_of_memory_quotes_the_kernel(machine: Session) -> None:
    """Memory exhausted by a case kills the case, not the agent; its error quotes the kernel, the machine is spent."""
    reply = machine.call("sick:fill_memory", {}, deadline=20.0)
    assert reply.status is CallStatus.RAISED
    assert "the worker died of SIGKILL: Out of memory: Killed process" in reply.error
    assert not machine.usable


@pytest.mark.parametrize("end", ["return", "die", "hang"])
def test_a_fork_bomb_is_only_its_cases(machine: Session, end: str) -> None:
    """With no process id left the agent still answers, and the processes of a dead worker are killed."""
    reply = machine.call("sick:fork_bomb", {"end": end}, deadline=DEADLINE if end == "hang" else 20.0)
    assert reply.status is {"return": CallStatus.ANSWERED, "die": CallStatus.RAISED, "hang": CallStatus.OVERRAN}[end], (
        reply.error
    )
    if end == "die":
        assert "SIGKILL" in reply.error
        _assert_sound(machine)


def test_a_jump_of_the_clock_is_undone(machine: Session) -> None:
    """A case that sets the clock keeps its deadline, and the next case has the right time."""
    reply = machine.call("sick:set_clock", {"to": 2e9}, deadline=5.0)
    assert reply.status is CallStatus.ANSWERED
    assert reply.seconds < 5
    reply = machine.call("sick:tell_time", {}, deadline=5.0)
    assert abs(reply.value - time.time()) < 5


def test_a_reset_without_a_panic_is_a_loss(machine: Session) -> None:
    """A triple fault leaves no text; the reply says that the guest was reset."""
    reply = machine.call("sick:triple_fault", {}, deadline=5.0)
    assert reply.status is CallStatus.LOST
    assert "reset without a panic" in reply.error


def test_a_slow_host_is_no_hung_kernel(machine: Session) -> None:
    """A deadline is extended while the host is slower than it was when the template was made."""
    stop = threading.Event()

    def slow_down() -> None:
        process = _qemu(machine).process
        while not stop.is_set():  # a quarter of the processor; with much less it would not answer at all
            process.send_signal(signal.SIGSTOP)
            stop.wait(0.06)
            process.send_signal(signal.SIGCONT)
            stop.wait(0.02)

    slowing = threading.Thread(target=slow_down)
    slowing.start()
    try:
        seconds = DEADLINE * machine.info.factor
        reply = machine.call("sick:work", {"seconds": seconds * 1.5}, deadline=DEADLINE)
    finally:
        stop.set()
        slowing.join()
    assert reply.status is CallStatus.ANSWERED, reply
    assert reply.seconds > seconds


def _crowd(processor: int) -> list[subprocess.Popen[bytes]]:
    """Start processes that only compute, all with the same priority on this processor."""
    loop = f"import os; os.sched_setaffinity(0, {{{processor}}})\nwhile True: pass"
    return [subprocess.Popen([sys.executable, "-SsEc", loop], start_new_session=True) for _ in range(CROWD)]


def test_a_starved_machine_is_no_hung_kernel(machine: Session) -> None:
    """Time for which a busy host does not run QEMU does not count, however long it is."""
    pid = _qemu(machine).process.pid
    processor = min(os.sched_getaffinity(0))
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {processor})
    slow = EXTENSION_LIMIT * DEADLINE * machine.info.factor
    times = round(DEADLINE / CALIBRATION_REFERENCE / 2)
    crowd = _crowd(processor)
    try:
        while (
            reply := machine.call("sick:compute", {"times": times}, deadline=DEADLINE)
        ).status is CallStatus.ANSWERED:
            if reply.seconds > slow:
                break
            # Its template was made on a busier host, so the machine is faster than its factor.
            times += times // 2
    finally:
        for each in crowd:
            each.kill()
            each.wait()
    assert reply.status is CallStatus.ANSWERED, reply


def test_the_console_has_the_log_before_the_panic(machine: Session) -> None:
    """The console has what the kernel logged in the case, not only the panic."""
    reply = machine.call("sick:warn_and_crash", {}, deadline=5.0)
    assert reply.status is CallStatus.PANICKED
    assert "something odd" in reply.console


def test_a_trace_shows_the_functions_of_the_call(machine: Session) -> None:
    """A traced call returns the function graph of the matching functions, and tracing is off again."""
    reply = machine.call("sick:touch_sockmap", {}, deadline=5.0, evidence=Evidence(trace=SOCKMAP_PATHS))
    assert reply.status is CallStatus.ANSWERED, reply.error
    assert "sock_map_alloc" in reply.trace
    assert "do_sys_open" not in reply.trace
    again = machine.call("sick:read", {"path": "/sys/kernel/tracing/current_tracer"}, deadline=5.0)
    assert (again.value, again.trace) == ("nop\n", "")


def test_a_trace_of_nothing_says_so(machine: Session) -> None:
    """A filter that matches nothing traces nothing, rather than everything."""
    reply = machine.call("sick:echo", {}, deadline=5.0, evidence=Evidence(trace=("no_such_function",)))
    assert reply.status is CallStatus.ANSWERED
    assert reply.trace == "no trace: the kernel has no function that matches no_such_function"


def test_a_panic_under_trace_prints_the_trace(machine: Session) -> None:
    """What was traced before the kernel died is on the console."""
    reply = machine.call("sick:touch_and_crash", {}, deadline=5.0, evidence=Evidence(trace=SOCKMAP_PATHS))
    assert reply.status is CallStatus.PANICKED
    assert "sysrq triggered crash" in reply.error
    assert "sock_map_alloc" in reply.console


@pytest.mark.parametrize(
    ("function", "status"),
    [("warn_and_crash", CallStatus.PANICKED), ("freeze_agent", CallStatus.OVERRAN)],
)
def test_a_dump_has_the_memory_of_a_dead_guest(
    machine: Session, tmp_path: Path, function: str, status: CallStatus
) -> None:
    """Dead or hung, the guest's memory is written: an ELF core with the note that crash and drgn need."""
    core = tmp_path / "core"
    reply = machine.call(f"sick:{function}", {}, deadline=DEADLINE, evidence=Evidence(dump=core))
    assert (reply.status, reply.dump) == (status, "")
    with core.open("rb") as file:
        segments = list(ELFFile(file).iter_segments())
        assert isinstance(segments[-1], NoteSegment)
        notes = {note["n_name"]: note["n_desc"] for note in segments[-1].iter_notes()}
    assert b"OSRELEASE=6.12" in notes["VMCOREINFO"]
    assert sum(segment["p_filesz"] for segment in segments) > OPTIONS.memory << 20


def test_a_dump_that_cannot_be_written_says_so(machine: Session, tmp_path: Path) -> None:
    """A dump into a folder that does not exist costs the dump, not the reply."""
    reply = machine.call("sick:hang", {}, deadline=DEADLINE, evidence=Evidence(dump=tmp_path / "none" / "core"))
    assert reply.status is CallStatus.OVERRAN
    assert "no memory dump: " in reply.dump
