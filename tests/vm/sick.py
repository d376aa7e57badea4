# SPDX-License-Identifier: GPL-2.0-only
"""Guest code that breaks a machine, one function for each way; see test_faults.py."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Any

SYSRQ = Path("/proc/sysrq-trigger")
BPF_MAP_CREATE = 0
SOCKMAP = 15
SYS_BPF = 321

FUSE_INIT = 26
FUSE_HEADER = struct.Struct("=IIQ")
"""The head of `struct fuse_in_header`: len, opcode, unique."""
FUSE_ANSWER = struct.Struct("=IiQ")
FUSE_INIT_OUT = struct.Struct("=IIIIHHI40x")


def echo(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what was given."""
    return arguments


def read(arguments: dict[str, Any]) -> str:
    """Return a file."""
    return Path(arguments["path"]).read_text()


def hang(arguments: dict[str, Any]) -> None:
    """Print a line, then sleep forever."""
    _log("the case has begun")
    signal.pause()


def leave_a_thread(arguments: dict[str, Any]) -> None:
    """Return, and leave a thread running."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def work(arguments: dict[str, Any]) -> None:
    """Compute for some seconds."""
    time.sleep(arguments["seconds"])


def compute(arguments: dict[str, Any]) -> None:
    """Do the agent's calibration work `times` times."""
    from vm.guest import agent

    for _ in range(arguments["times"]):
        agent.calibrate()


def kill_agent(arguments: dict[str, Any]) -> None:
    """Kill the agent."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def freeze_agent(arguments: dict[str, Any]) -> None:
    """Stop the agent."""
    os.kill(os.getppid(), signal.SIGSTOP)
    signal.pause()


def fill_memory(arguments: dict[str, Any]) -> None:
    """Use up all memory so that it stays used when this process dies."""
    assert not ctypes.CDLL(None).mount(b"tmpfs", b"/run", b"tmpfs", 0, b"size=100%")
    with open("/run/full", "wb") as file:
        while True:
            file.write(bytes(1 << 20))


def fork_bomb(arguments: dict[str, Any]) -> None:
    """Use up all process ids, in sessions of their own."""
    Path("/proc/sys/kernel/pid_max").write_text("301")
    while True:
        try:
            if not os.fork():
                os.setsid()
                signal.pause()
        except OSError:
            break
    if arguments["end"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if arguments["end"] == "hang":
        signal.pause()


def set_clock(arguments: dict[str, Any]) -> None:
    """Set the clock."""
    time.clock_settime(time.CLOCK_REALTIME, arguments["to"])


def tell_time(arguments: dict[str, Any]) -> float:
    """Return the guest's time."""
    return time.time()


def triple_fault(arguments: dict[str, Any]) -> None:
    """Have the processor reset itself."""
    Path("/sys/kernel/reboot/type").write_text("triple")
    SYSRQ.write_text("b")


def warn_and_crash(arguments: dict[str, Any]) -> None:
    """Warn in the kernel log, then panic."""
    _log("something odd")
    SYSRQ.write_text("c")


def touch_sockmap(arguments: dict[str, Any]) -> None:
    """Make a sockmap."""
    attributes = struct.pack("=IIII112x", SOCKMAP, 4, 4, 1)
    descriptor = ctypes.CDLL(None).syscall(SYS_BPF, BPF_MAP_CREATE, attributes, len(attributes))
    assert descriptor >= 0
    os.close(descriptor)


def touch_and_crash(arguments: dict[str, Any]) -> None:
    """Make a sockmap, then panic."""
    touch_sockmap(arguments)
    SYSRQ.write_text("c")


def never_wake(arguments: dict[str, Any]) -> None:
    """Have a thread wait for a FUSE server that never answers; not even a signal ends that wait."""
    fuse = os.open("/dev/fuse", os.O_RDWR)
    os.makedirs("/tmp/fuse")  # noqa: S108
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    assert not ctypes.CDLL(None).mount(b"fuse", b"/tmp/fuse", b"fuse", 0, options)
    if not os.fork():
        os.setsid()
        _serve(fuse)
    sleeper = threading.Thread(target=os.listdir, args=("/tmp/fuse",))  # noqa: S108
    sleeper.start()
    sleeper.join()


def _serve(fuse: int) -> None:
    while True:
        _, opcode, unique = FUSE_HEADER.unpack_from(os.read(fuse, 1 << 20))
        if opcode == FUSE_INIT:
            body = FUSE_INIT_OUT.pack(7, 31, 0, 0, 1, 1, 4096)
            os.write(fuse, FUSE_ANSWER.pack(FUSE_ANSWER.size + len(body), 0, unique) + body)


def _log(text: str) -> None:
    Path("/dev/kmsg").write_text(f"<4>{text}\n")


def tell_priority(arguments: Any) -> list[int]:
    """Return the scheduling policy of this process and of a child."""
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, bytes([os.sched_getscheduler(0)]))
        os._exit(0)
    os.wait()
    return [os.sched_getscheduler(0), os.read(reader, 1)[0]]
