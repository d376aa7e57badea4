# SPDX-License-Identifier: GPL-2.0-only
"""The process that calls functions for the agent, so that a case that hangs or dies takes only it along."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import time
import traceback
from pathlib import Path
from typing import Any
from typing import NoReturn

from vm.guest.frames import Channel
from vm.guest.frames import encode

PR_SET_PDEATHSIG = 1


class Worker:
    """The agent's side of one worker: a child process in a session of its own."""

    def __init__(self, close_in_child: list[int]) -> None:
        request_reader, request_writer = os.pipe()
        answer_reader, answer_writer = os.pipe()
        agent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            for descriptor in [*close_in_child, request_writer, answer_reader]:
                os.close(descriptor)
            _serve(Channel(request_reader, answer_writer), agent)
        os.close(request_reader)
        os.close(answer_writer)
        self._channel = Channel(answer_reader, request_writer)
        self._pidfd = os.pidfd_open(self.pid)

    def call(self, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Pass a request on and return the worker's answer, or what became of the worker."""
        try:
            self._channel.send(request)
        except BrokenPipeError:
            return {"fate": "died", "error": self.bury()}
        poll = select.poll()
        poll.register(self._channel.reader, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        end = time.monotonic() + deadline
        while ready := poll.poll(max(0.0, end - time.monotonic()) * 1000):
            if any(fd == self._channel.reader and event & select.POLLIN for fd, event in ready):
                answer = self._channel.receive()
                if answer is not None:
                    return dict(answer)
            if any(fd == self._pidfd for fd, _ in ready):
                return {"fate": "died", "error": self.bury()}
            poll.unregister(self._channel.reader)  # it closed its end and has not died yet
        return {"fate": "overran", "error": self.whereabouts()}

    def whereabouts(self) -> str:
        """Say where in the kernel the worker is."""
        lines = []
        for name in ("wchan", "syscall", "stack"):
            with contextlib.suppress(OSError):
                lines.append(f"{name}: {Path(f'/proc/{self.pid}/{name}').read_text().rstrip()}")
        return "\n".join(lines)

    def bury(self) -> str:
        """Reap a dead worker and say what it died of."""
        _, status = os.waitpid(self.pid, 0)
        self._close()
        code = os.waitstatus_to_exitcode(status)
        return f"the worker died of {signal.Signals(-code).name}" if code < 0 else f"the worker exited with {code}"

    def kill(self) -> None:
        """End the worker and its children; one that is stuck in the kernel is left to it."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if poll.poll(1000):
            os.waitpid(self.pid, 0)
        self._close()

    def _close(self) -> None:
        self._channel.close()
        os.close(self._pidfd)


def _serve(channel: Channel, agent: int) -> NoReturn:
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != agent:  # it died before the line above
        os._exit(1)
    code = 1
    try:
        while (request := channel.receive()) is not None:
            channel.write(_perform(request["function"], request["arguments"]))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _perform(function: str, arguments: dict[str, Any]) -> bytes:
    try:
        module, _, name = function.partition(":")
        value = getattr(importlib.import_module(module), name)(arguments)
        return encode({"fate": "answered", "value": value})
    except BaseException:
        return encode({"fate": "raised", "error": traceback.format_exc()})
