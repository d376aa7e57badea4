# SPDX-License-Identifier: GPL-2.0-only
"""A Machine as the host sees it: requests with deadlines to an agent that may die, hang or panic at any moment."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from typing import Protocol

from common.errors import KernelError
from vm.guest.bundle import digest
from vm.guest.frames import CHUNK
from vm.guest.frames import FrameBuffer
from vm.guest.frames import FramingError
from vm.guest.frames import encode
from vm.machine import Bundle
from vm.machine import Fate
from vm.machine import LogLine
from vm.machine import MachineInfo
from vm.machine import Reply

GRACE = 2.0
"""Seconds on the reference machine that the agent may take beyond what was asked of it."""

CALIBRATION_REFERENCE = 0.0085
"""Seconds the agent's calibration takes on the reference machine: half a core of a 2.8 GHz Xeon, without a VM."""

LAST_WORDS = 64 << 10
PANIC = "Kernel panic - not syncing"


class Body(Protocol):
    """The process behind a machine."""

    control: socket.socket
    exited: int
    """A pidfd."""

    def console(self) -> str:
        """Return what was printed so far."""

    def complaint(self) -> str:
        """Return the process's own last message."""

    def close(self) -> None:
        """End it at once; may be called twice."""


class DeadMachineError(Exception):
    """No answer came and none will."""

    def __init__(self, fate: Fate, console: str, complaint: str) -> None:
        super().__init__(f"the machine {fate}")
        self.fate = fate
        self.console = console
        self.complaint = complaint

    @property
    def last_line(self) -> str:
        """The panic's title, or else whatever was said last."""
        lines = [line for line in self.console.splitlines() if line.strip()]
        titles = [line for line in lines if PANIC in line]
        return (titles or lines[-1:] or [self.complaint])[0]


class Session:
    """A Machine on top of a Body."""

    def __init__(self, body: Body, info: MachineInfo) -> None:
        self._body = body
        self._info = info
        self._buffer = FrameBuffer()
        self._count = 0
        self._modules: dict[str, str] = {}
        self._usable = True

    @property
    def info(self) -> MachineInfo:
        """What it is."""
        return self._info

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._usable

    def greet(self, patience: float, *, clock: bool = False) -> str:
        """Wait for the agent, set its clock if asked to, and return the release it runs."""
        answer = self._ask({"op": "hello", "clock": time.time() if clock else None}, patience)
        self._modules = answer["modules"]
        return str(answer["release"])

    def calibrate(self, boot_seconds: float) -> None:
        """Measure how much slower than the reference this machine is, and have deadlines follow."""
        seconds = self._ask({"op": "calibrate"}, 60.0)["seconds"]
        factor = max(1.0, round(seconds / CALIBRATION_REFERENCE, 2))
        self._info = replace(self._info, factor=factor, boot_seconds=round(boot_seconds, 2))

    def drain(self) -> list[LogLine]:
        """Return the kernel log so far, which then belongs to no call."""
        return list(_log(self._ask({"op": "log"}, self._scaled(GRACE))["log"]))

    def load(self, bundle: Bundle) -> None:
        """Make these modules importable in the guest; only what the guest has not yet is sent.

        KernelError if the guest dies of it.
        """
        wanted = {name: digest(source) for name, source in bundle.items()}
        if wanted == self._modules:
            return
        changed = {name: bundle[name] for name, content in wanted.items() if self._modules.get(name) != content}
        try:
            self._ask({"op": "load", "names": sorted(wanted), "sources": changed}, self._scaled(10.0))
        except DeadMachineError as death:
            raise KernelError(
                f"the guest died when it was given its code: {death.last_line}",
                hint="try --machine=cold; a kernel that dies so early cannot be judged",
            ) from death
        self._modules = wanted

    def call(self, function: str, arguments: Mapping[str, Any], *, deadline: float) -> Reply:
        """Call `package.module:function` with one JSON object; `deadline` is in seconds before scaling."""
        begin = time.monotonic()
        allowed = self._scaled(deadline)
        request = {"op": "call", "function": function, "arguments": dict(arguments), "deadline": allowed}
        try:
            answer = self._ask(request, allowed + self._scaled(GRACE))
        except DeadMachineError as death:
            return Reply(
                fate=death.fate,
                error=death.last_line,
                log_complete=False,
                console=death.console,
                seconds=time.monotonic() - begin,
            )
        return self._reply(answer, time.monotonic() - begin)

    def close(self) -> None:
        """End it at once; nothing of it remains."""
        self._usable = False
        self._body.close()

    def _reply(self, answer: dict[str, Any], seconds: float) -> Reply:
        # A worker that died is the case's doing, as an exception would be; the agent has a new one.
        fate = {"died": Fate.RAISED, "failed": Fate.LOST}.get(answer["fate"]) or Fate(answer["fate"])
        self._usable = fate in (Fate.ANSWERED, Fate.RAISED)
        return Reply(
            fate=fate,
            value=answer.get("value"),
            error=answer.get("error", ""),
            log=tuple(_log(answer.get("log", ()))),
            log_complete=answer.get("log_complete", False),
            taint=answer.get("taint", 0),
            seconds=seconds,
        )

    def _scaled(self, seconds: float) -> float:
        return seconds * self._info.factor

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        self._count += 1
        end = time.monotonic() + patience
        frame = memoryview(encode({**request, "id": self._count}))
        self._body.control.setblocking(False)
        while frame:
            ready = self._wait(select.POLLOUT, end)
            try:
                frame = frame[self._body.control.send(frame) :] if ready else frame
            except OSError:
                raise self._died() from None
        while True:
            try:
                answer = self._buffer.pop()
                if answer is not None and answer["id"] == self._count:
                    return dict(answer)
                if answer is None:
                    self._wait(select.POLLIN, end)
                    chunk = self._body.control.recv(CHUNK)
                    if not chunk:
                        raise self._died()
                    self._buffer.feed(chunk)
            except (FramingError, LookupError, TypeError, OSError):
                raise self._died() from None

    def _wait(self, event: int, end: float) -> bool:
        """Wait until the control socket is ready; DeadMachineError when the time is up or the machine has ended."""
        poll = select.poll()
        poll.register(self._body.control, event)
        poll.register(self._body.exited, select.POLLIN)
        ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        if not ready:
            raise self._died(Fate.OVERRAN)
        if all(descriptor == self._body.exited for descriptor, _ in ready):
            raise self._died()
        return True

    def _died(self, fate: Fate = Fate.LOST) -> DeadMachineError:
        """Let a dying machine finish its last words, then take them and end it."""
        self._usable = False
        if fate is Fate.LOST:
            poll = select.poll()
            poll.register(self._body.exited, select.POLLIN)
            poll.poll(self._scaled(GRACE) * 1000)
        console = self._body.console()[-LAST_WORDS:]
        complaint = self._body.complaint()
        if PANIC in console:
            fate = Fate.PANICKED
        self._body.close()
        return DeadMachineError(fate, console, complaint)


def _log(records: Iterable[tuple[int, int, int, str]]) -> Iterable[LogLine]:
    return (LogLine(*record) for record in records)
