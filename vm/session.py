# SPDX-License-Identifier: GPL-2.0-only
"""A Machine as the host sees it: requests with deadlines to an agent that may die, hang or panic at any moment."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from common.errors import HostError, KernelError
from vm import answers, core
from vm.answers import NonsenseError
from vm.death import PANIC, DeadMachineError
from vm.guest.bundle import digest
from vm.guest.frames import CHUNK, FrameBuffer, FramingError, encode
from vm.machine import NO_EVIDENCE, Bundle, CallStatus, Evidence, LogLine, MachineInfo, Reply
from vm.monitor import QmpError
from vm.patience import Patience, Waits, never

GRACE = 1.0
"""Seconds on the reference machine that the agent may take beyond what was asked of it."""

GRACE_LIMIT = 8.0
"""Seconds that this may be at most: only when it is over, a kernel that makes no progress is found out.

Under TCG the agent's second is twenty. It may need four, to find out that its machine became slower.
"""

CALIBRATION_REFERENCE = 0.0085
"""Seconds the agent's calibration takes on the reference machine: half a core of a 2.8 GHz Xeon, without a VM."""

FACTOR_LIMIT = 20.0
"""A machine measured slower than this was measured while the host was busy; see also Agent._patience."""

TRACE_SECONDS = 10.0
"""Seconds on the reference machine to arm ftrace and to read what it recorded."""

TRACE_SLOWDOWN = 5.0
LAST_WORDS = 64 << 10
BEFORE_PANIC = 16 << 10
"""Of a console longer than that, so much is kept from before the panic."""

CONSOLE_LIMIT = 16 << 20
"""Bytes that a machine may print in its life: a file in memory holds them."""

LOOK_SECONDS = 1.0
"""How often to look for how much that is; a guest prints a few megabytes a second at most."""

EXIT_SECONDS = 1.0
"""For QEMU to exit once its end of the channel is closed."""

SEED_BYTES = 32
"""Bytes of randomness that a clone is given: the size of the kernel's key."""

EOF = b"\x04"

_T = TypeVar("_T")


def _nothing(answer: dict[str, Any]) -> None:
    """Read an answer that only says that something is done."""


class Body(Protocol):
    """The process behind a machine."""

    control: socket.socket
    exited: int
    """A pidfd."""

    def console(self) -> str:
        """Return what was printed so far."""

    def printed(self) -> int:
        """Return how many bytes that is."""

    def failure(self) -> str:
        """Return the process's own last message."""

    def host_fault(self) -> str:
        """Return what somebody on the host did to the process, if that is why there is no answer."""

    def starved(self) -> Waits:
        """Return for how long in all it has waited for a processor."""

    def faults(self) -> int:
        """Return how often it has waited for memory on disk."""

    def diagnose(self) -> None:
        """Have a silent kernel print where it is, if there is a way."""

    def keep(self) -> int:
        """Keep the memory of a guest that dies from now on; returns a descriptor that gets ready then, or -1."""

    def ended(self) -> bool:
        """Whether a guest that is kept no longer runs."""

    def dump(self, path: Path) -> None:
        """Write the guest's memory; QmpError if that fails."""

    def debug(self, path: Path) -> None:
        """Stop it and serve gdb at the socket `path`; QmpError if that fails."""

    def close(self) -> None:
        """End it at once; may be called twice."""


class Session:
    """A Machine on top of a Body."""

    def __init__(self, body: Body, info: MachineInfo) -> None:
        self._body = body
        self._info = info
        self._buffer = FrameBuffer(answers.FRAME_LIMIT)
        self._count = 0
        self._modules: dict[str, str] = {}
        self._usable = True
        self._dump: Path | None = None
        self._kept = -1
        self._vmcoreinfo: tuple[int, ...] = ()

    @property
    def info(self) -> MachineInfo:
        """What it is."""
        return self._info

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._usable

    def greet(self, patience: float, *, clock: bool = False) -> str:
        """Wait for the agent and return the release it runs; with `clock`, set its clock and reseed its random bytes.

        Clones of a template have its clock and its random state, so without this they would all draw the same bytes.
        """
        own = {"clock": time.time(), "seed": os.urandom(SEED_BYTES).hex()} if clock else {}
        answer = self._ask({"op": "hello"} | own, patience, answers.hello)
        self._modules = dict(answer.modules)
        self._vmcoreinfo = answer.vmcoreinfo
        return answer.release

    def calibrate(self, boot_seconds: float) -> None:
        """Measure how much slower than the reference this machine is, and have deadlines follow."""
        seconds = self._ask({"op": "calibrate"}, 60.0, answers.calibration)
        factor = min(max(1.0, round(seconds / CALIBRATION_REFERENCE, 2)), FACTOR_LIMIT)
        self._info = replace(self._info, factor=factor, boot_seconds=round(boot_seconds, 2))

    def drain(self) -> list[LogLine]:
        """Return the kernel log so far, which then belongs to no call."""
        return list(self._ask({"op": "log"}, self._grace, answers.window).log)

    def load(self, bundle: Bundle) -> None:
        """Make these modules importable in the guest; only what the guest has not yet is sent.

        KernelError if the guest dies of it, HostError if somebody kills it.
        """
        wanted = {name: digest(source) for name, source in bundle.items()}
        if wanted == self._modules:
            return
        changed = {name: bundle[name] for name, content in wanted.items() if self._modules.get(name) != content}
        try:
            self._ask({"op": "load", "names": sorted(wanted), "sources": changed}, self._scaled(10.0), _nothing)
        except DeadMachineError as death:
            if death.host_fault:
                raise HostError(
                    f"{death.host_fault} when the guest was given its code",
                    hint="see who did that, or whether memory ran out (dmesg)",
                ) from death
            raise KernelError(
                f"the guest died when it was given its code: {death.sentence}",
                hint="try --machine=cold; a kernel that dies so early cannot be judged",
            ) from death
        self._modules = wanted

    def call(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        deadline: float,
        evidence: Evidence = NO_EVIDENCE,
        hold: bool = False,
        watch: bool = True,
    ) -> Reply:
        """Call a function as Machine says; with `hold` stop it before it tears itself down, and leave it standing.

        Without `watch` nobody looks at the kernel's log and taint, and nothing may pass on the reply.
        """
        begin = time.monotonic()
        allowed = self._scaled(deadline)
        extra = self._grace
        request: dict[str, Any] = {"op": "call", "function": function, "arguments": dict(arguments)}
        if hold:
            request["hold"] = True
        if not watch:
            request["watch"] = False
        if evidence.trace:
            request["trace"] = evidence.trace
            allowed *= TRACE_SLOWDOWN
            extra += self._scaled(TRACE_SECONDS)
        if evidence.dump is not None and self._dump is None:
            self._kept = self._body.keep()
        self._dump = evidence.dump
        try:
            wait = allowed + extra
            reply, self._usable = self._ask({**request, "deadline": allowed}, wait, answers.reply)
            if not self._usable:
                reply = replace(reply, console=self._console_end(), dump=self._dumped())
        except DeadMachineError as death:
            reply = death.reply()
        return replace(reply, seconds=time.monotonic() - begin)

    def dump(self, path: Path) -> None:
        """Write the guest's memory to `path` as an ELF core; HostError where that fails."""
        try:
            self._write_core(path)
        except (QmpError, OSError) as error:
            raise HostError(f"the guest's memory cannot be dumped: {error}", hint="is there space for it?") from error

    def debug(self, path: Path) -> None:
        """Stop the kernel and have gdb's protocol spoken on a Unix socket at `path`; HostError where that fails."""
        try:
            self._body.debug(path)
        except QmpError as error:
            raise HostError(f"the kernel cannot be debugged: {error}", hint="choose a kernel for a VM") from error

    def place(self, path: str, content: bytes) -> None:
        """Put a program where the guest has no such file."""
        files = {path: base64.b64encode(content).decode()}
        self._ask({"op": "place", "files": files}, self._scaled(10.0), _nothing)

    def shell(self, command: list[str], environment: Mapping[str, str], size: list[int], keys: int, screen: int) -> int:
        """Run a command in the guest, its terminal at the descriptors `keys` and `screen`; returns its status."""
        self._send({"op": "shell", "command": command, "environment": dict(environment), "size": size}, never())
        while True:
            answer = self._take(never(), keys)
            if answer is None:
                typed = os.read(keys, CHUNK)
                keys = keys if typed else -1
                self._write({"id": self._count, "keys": base64.b64encode(typed or EOF).decode()}, never())
                continue
            with self._sense():
                shown, status = answers.screen(answer), answers.status(answer)
            if shown is None:
                return status
            os.write(screen, shown)

    def close(self) -> None:
        """End it at once; nothing of it remains."""
        self._usable = False
        self._body.close()

    def _scaled(self, seconds: float) -> float:
        return seconds * self._info.factor

    @property
    def _grace(self) -> float:
        return min(self._scaled(GRACE), GRACE_LIMIT)

    def _ask(self, request: dict[str, Any], patience: float, read: Callable[[dict[str, Any]], _T]) -> _T:
        """Send a request and return its answer as `read` does; `patience`, in seconds, counts as Patience says."""
        wait = Patience(patience, self._body.starved, self._body.faults)
        self._send(request, wait)
        while True:
            answer = self._take(wait) or {}
            with self._sense():
                late, extension = answers.is_late(answer), answers.extension(answer)
            if late:
                self._write({"id": self._count, "starved": wait.starved}, wait)
            elif extension is not None:
                wait.extend(extension)
            else:
                break
        with self._sense():
            failure = answers.failure(answer)
            if failure is None or request["op"] == "call":
                return read(answer)
        raise self._died(wait, why=f"the agent failed: {failure}")

    @contextlib.contextmanager
    def _sense(self) -> Iterator[None]:
        """Hold nonsense from the guest against the guest: DeadMachineError, the machine ended."""
        try:
            yield
        except (FramingError, NonsenseError) as error:
            raise self._died(None, why=f"what came from the guest makes no sense: {error}") from error

    def _send(self, request: dict[str, Any], wait: Patience) -> None:
        self._count += 1
        self._write({**request, "id": self._count}, wait)

    def _write(self, message: dict[str, Any], wait: Patience) -> None:
        frame = memoryview(encode(message))
        self._body.control.setblocking(False)
        while frame:
            self._wait(select.POLLOUT, wait)
            try:
                frame = frame[self._body.control.send(frame) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._died(wait) from None

    def _take(self, wait: Patience, other: int = -1) -> dict[str, Any] | None:
        """Return the next answer to the last request; None if the descriptor `other` got ready first."""
        while True:
            with self._sense():
                while (answer := self._buffer.pop()) is not None:
                    if answers.number_of(answer) == self._count:
                        return answer
            if not self._wait(select.POLLIN, wait, other):
                return None
            try:
                chunk = self._body.control.recv(CHUNK)
            except BlockingIOError:
                continue
            except OSError:
                raise self._died(wait) from None
            if not chunk:
                cut = "the channel ended in the middle of a frame" if self._buffer.pending else ""
                raise self._died(wait, why=cut)
            self._buffer.feed(chunk)

    def _wait(self, event: int, wait: Patience, other: int = -1) -> bool:
        """Wait until the control socket is ready, True, or `other` is, False.

        DeadMachineError when the time is up or the machine has ended.
        """
        poll = select.poll()
        poll.register(self._body.control, event)
        poll.register(self._body.exited, select.POLLIN)
        for descriptor in {other, self._kept} - {-1}:
            poll.register(descriptor, select.POLLIN)
        while True:
            left = wait.left
            ready = dict(poll.poll(max(0.0, min(left, LOOK_SECONDS)) * 1000))
            if self._body.printed() > CONSOLE_LIMIT:
                raise self._died(wait, why=f"the guest printed more than {CONSOLE_LIMIT >> 20} MiB on its console")
            if self._body.control.fileno() in ready and (left > 0 or wait.overtime()):
                return True
            if self._body.exited in ready or (self._kept in ready and self._body.ended()):
                raise self._died(wait)
            if other in ready:
                return False
            if left <= 0:
                raise self._died(wait, CallStatus.OVERRAN)

    def _died(self, wait: Patience | None, status: CallStatus = CallStatus.LOST, why: str = "") -> DeadMachineError:
        """Let a dying machine finish its last words, take them and end it; `wait` tells the host's part in it."""
        self._usable = False
        # Before anybody asks whether the process has ended: then its counts are gone.
        squeezed = wait.squeezed if wait is not None else ""
        if status is CallStatus.LOST and not why and not self._body.ended():
            poll = select.poll()
            poll.register(self._body.exited, select.POLLIN)
            poll.poll(EXIT_SECONDS * 1000)
        failure = why or self._body.failure()
        blame = squeezed if not why else ""
        if status is CallStatus.OVERRAN and wait is not None:
            blame = wait.blame
        host_fault = self._body.host_fault() or blame
        if PANIC in self._body.console():
            # A kernel whose memory comes and goes may do anything, and its next machine may tell.
            status, host_fault = CallStatus.PANICKED, squeezed
        dump = self._dumped()
        if status is CallStatus.OVERRAN:
            failure = f"the guest does not answer ({failure})"
            status = CallStatus.LOST if host_fault else status
            self._body.diagnose()
        death = DeadMachineError(status, self._console_end(), failure, dump, host_fault)
        self._body.close()
        return death

    def _console_end(self) -> str:
        """Return the end of the console, or what is around the panic."""
        console = self._body.console()
        panic = console.find(PANIC)
        start = max(0, len(console) - LAST_WORDS)
        if 0 <= panic < start + BEFORE_PANIC:
            start = max(0, panic - BEFORE_PANIC)
        return console[start : start + LAST_WORDS]

    def _dumped(self) -> str:
        """Write the dump that was asked for, if any; return why it could not be written."""
        path, self._dump = self._dump, None
        if path is None:
            return ""
        try:
            self._write_core(path)
        except (QmpError, OSError) as error:
            return f"no memory dump: {error}"
        return ""

    def _write_core(self, path: Path) -> None:
        self._body.dump(path)
        if self._vmcoreinfo:
            core.add_note(path, *self._vmcoreinfo)
