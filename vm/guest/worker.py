# SPDX-License-Identifier: GPL-2.0-only
"""The process that calls functions for the agent, so that a case that hangs or dies kills only this process."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from vm.guest.frames import Channel, FramingError, encode

PR_SET_PDEATHSIG = 1
KILL_SECONDS = 1.0
OOM_SCORE = "1000"
"""Without memory the kernel kills the case first, not the agent."""

ABOVE_AGENT = 2
"""The real-time priority of a worker while it answers; the agent has 1.

The agent, whose priority is above that of any case, would otherwise preempt the worker in the write(2) that wakes the
agent, only to have it run again for the read(2) in which it waits for the next case. Each of these switches empties the
translation buffer, which is what an emulated processor takes the longest over.
"""

CLOSERS = ("close", "tear_down", "__exit__")
"""A case that is held for a shell stops before the first of these functions that guest code calls."""


class Worker:
    """The agent's side of one worker: a child process in a session of its own."""

    def __init__(self, close_in_child: list[int], *, above: bool = False) -> None:
        """Fork it; `above`: the agent has a real-time priority, and the worker needs a higher one while it answers."""
        self._above = above
        request_reader, request_writer = os.pipe()
        answer_reader, answer_writer = os.pipe()
        agent = os.getpid()
        try:
            self.pid = os.fork()
        except OSError:
            for descriptor in (request_reader, request_writer, answer_reader, answer_writer):
                os.close(descriptor)
            raise
        if not self.pid:
            for descriptor in [*close_in_child, request_writer, answer_reader]:
                os.close(descriptor)
            _serve(Channel(request_reader, answer_writer), agent, above=above)
        os.close(request_reader)
        os.close(answer_writer)
        self._channel = Channel(answer_reader, request_writer)
        self._pidfd = os.pidfd_open(self.pid)

    def call(self, request: dict[str, Any], deadline: float, more: Callable[[], float]) -> dict[str, Any]:
        """Pass a request on and return the worker's answer, or how the worker died.

        When the deadline has passed, `more` returns the seconds to wait on.
        """
        if self._above:
            _schedule(self.pid, os.SCHED_OTHER, 0)
        try:
            self._channel.send(request)
        except BrokenPipeError:
            return {"status": "died", "error": self.reap()}
        poll = select.poll()
        poll.register(self._channel.reader, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        end = time.monotonic() + deadline
        while True:
            ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
            if not ready:
                extension = more()
                if not extension and not poll.poll(0):
                    return {"status": "overran", "error": self.whereabouts()}
                end += extension
                continue
            if any(fd == self._channel.reader and event & select.POLLIN for fd, event in ready):
                try:
                    answer = self._channel.receive()
                except FramingError as error:
                    self.kill()
                    return {"status": "died", "error": f"the worker's answer cannot be read: {error}"}
                if answer is not None:
                    return dict(answer)
            if any(fd == self._pidfd for fd, _ in ready):
                return {"status": "died", "error": self.reap()}
            poll.unregister(self._channel.reader)  # it closed its end and has not died yet

    def whereabouts(self) -> str:
        """Say where in the kernel the worker is."""
        lines = []
        for name in ("wchan", "syscall", "stack"):
            with contextlib.suppress(OSError):
                lines.append(f"{name}: {Path(f'/proc/{self.pid}/{name}').read_text().rstrip()}")
        return "\n".join(lines)

    def reap(self) -> str:
        """Reap a dead worker and return the cause of its death."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self._close()
        code = os.waitstatus_to_exitcode(status)
        return f"the worker died of {signal.Signals(-code).name}" if code < 0 else f"the worker exited with {code}"

    def kill(self) -> bool:
        """Kill the worker and its children; return False if it is stuck in the kernel."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        dead = bool(poll.poll(KILL_SECONDS * 1000))
        if dead:
            os.waitpid(self.pid, 0)
        self._close()
        return dead

    def _close(self) -> None:
        self._channel.close()
        os.close(self._pidfd)


def _serve(channel: Channel, agent: int, *, above: bool) -> NoReturn:
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != agent:  # it died before the line above
        os._exit(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    code = 1
    try:
        while (request := channel.receive()) is not None:
            if request.get("hold"):
                sys.setprofile(_holder(channel))
            answer = _perform(request["function"], request["arguments"])
            if above:
                _schedule(0, os.SCHED_FIFO, ABOVE_AGENT)
            channel.write(answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _schedule(pid: int, policy: int, priority: int) -> None:
    """Change a process's scheduling policy; ignored if that is not permitted."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, policy, os.sched_param(priority))


def _perform(function: str, arguments: dict[str, Any]) -> bytes:
    try:
        module, _, name = function.partition(":")
        value = getattr(importlib.import_module(module), name)(arguments)
        # A thread that could not be killed may still spin in the kernel.
        if spent := threading.active_count() > 1:
            _bring_here(os.getppid())
        return encode({"status": "answered", "value": value, "spent": spent})
    except BaseException:
        return encode({"status": "raised", "error": traceback.format_exc()})


def _bring_here(pid: int) -> None:
    """Move a process to our processor: its own may be blocked by a spinning thread.

    The kernel need not do that: on 6.12.117 the agent waited for minutes while another processor was idle.
    """
    with contextlib.suppress(OSError):
        os.sched_setaffinity(pid, {ctypes.CDLL(None).sched_getcpu()})


def _holder(channel: Channel) -> Callable[[FrameType, str, Any], None]:
    """Return a profiler that answers and then stops this process just before a case tears itself down."""

    def stop(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name in CLOSERS and code.co_filename.startswith("bundle:"):
            sys.setprofile(None)
            channel.send({"status": "answered", "value": None})
            os.kill(os.getpid(), signal.SIGSTOP)

    return stop
