# SPDX-License-Identifier: GPL-2.0-only
"""Answer the host's requests: load modules, call functions in a worker, hand over the kernel log."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vm.guest import diagnosis, setup, tracer
from vm.guest.bundle import BundleFinder
from vm.guest.frames import Channel
from vm.guest.kmsg import KernelLog, Unread
from vm.guest.worker import Worker

PORT = "ctl"
CALIBRATION_ROUNDS = 20_000
CALIBRATIONS = 4
"""Calibrations: the fastest is the machine's speed; the mean, its speed while the host is busy."""

STRETCH = 4.0
"""How many times slower than in its template a machine may be before a slow call counts as a hang."""

SLOW = 1.5
LEAST_EXTENSION = 0.05
"""Seconds of the shortest extension."""

FORK_SECONDS = 10.0
DIAGNOSIS_SECONDS = 5.0
"""Seconds for killing a worker and logging backtraces, in total."""

CLOCK_SLACK = 1.0
"""Seconds the clock may be off after a call before it counts as tampered with."""


class Agent:
    """One per machine; the host asks one thing at a time."""

    def __init__(self, channel: Channel, *, alone: bool = False) -> None:
        """Serve on `channel`; `alone`: all other processes except init belong to cases."""
        self._channel = channel
        self._alone = alone
        self._pace: float | None = None
        self._epoch: float | None = None
        self._finder = BundleFinder()
        sys.meta_path.insert(0, self._finder)
        self._kmsg = KernelLog()
        self._worker: Worker | None = None
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "hello": self._hello,
            "load": self._load,
            "call": self._call,
            "log": lambda request: self._kmsg.window(),
            "calibrate": self._calibrate,
            "place": self._place,
            "shell": self._shell,
        }

    def serve(self) -> None:
        """Answer until the host closes the channel."""
        while (request := self._channel.receive()) is not None:
            try:
                answer = self._operations[request["op"]](request)
            except Exception:
                answer = {"status": "failed", "error": traceback.format_exc()}
            self._channel.send(answer | {"id": request["id"]})
        if self._worker is not None:
            self._worker.kill()

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer `hello`; a guest also sets its clock, corrects it after each call, and reseeds its random bytes."""
        if request.get("clock") is not None:
            setup.reseed(bytes.fromhex(request["seed"]))
            time.clock_settime(time.CLOCK_REALTIME, request["clock"])
            self._epoch = time.time() - time.monotonic()
        return {
            "release": os.uname().release,
            "modules": self._finder.digests(),
            "vmcoreinfo": diagnosis.vmcoreinfo(),
        }

    def _calibrate(self, request: dict[str, Any]) -> dict[str, Any]:
        self._pace = min(calibrate() for _ in range(CALIBRATIONS))
        return {"seconds": self._pace}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load changed modules; drop the old ones, and the worker that may have imported them."""
        if self._finder.update(request["names"], request["sources"]):
            self._drop_worker(request)
        self._worker = self._worker or self._fork()
        return {}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the worker call a function; the answer carries the kernel log since the last call."""
        kmsg = self._kmsg if request.get("watch", True) else Unread()
        kmsg.begin(f"{request['function']} {' '.join(map(str, request['arguments'].values()))}")
        try:
            worker = self._worker = self._worker or self._fork()
        except OSError as error:
            return {"status": "failed", "error": f"the agent cannot start a worker: {error}"} | kmsg.window()
        wanted: dict[str, Any] = {name: request.get(name) for name in ("function", "arguments", "hold")}
        with tracer.traced(request.get("trace", ())) as trace:
            answer = worker.call(wanted, request["deadline"], self._patience(request))
        if answer["status"] == "died":
            self._replace_worker(request)
        elif answer["status"] == "overran" and not self._drop_worker(request):
            sentence = diagnosis.log_backtraces() or "it cannot be killed; the kernel log has the backtraces"
            answer["error"] = "\n".join((answer["error"], diagnosis.stacks(worker.pid), sentence))
        self._restore_clock()
        answer |= trace | kmsg.window()
        if answer["status"] == "died" and (words := diagnosis.killer(worker.pid, answer["log"])):
            answer |= {"error": f"{answer['error']}: {words}", "spent": True}
        return answer

    def _patience(self, request: dict[str, Any]) -> Callable[[], float]:
        """Return a function that returns how much longer to wait after the deadline because the host is slow.

        The host knows for how long it kept this machine from running. Other slowness is measured.
        """
        begin, deadline = time.monotonic(), float(request["deadline"])

        def more() -> float:
            starved = self._starved(request)
            left = deadline + starved - (time.monotonic() - begin)
            if left > LEAST_EXTENSION:
                return left
            now = sum(calibrate() for _ in range(CALIBRATIONS)) / CALIBRATIONS
            slowdown = min(now / self._pace, STRETCH) if self._pace else 1.0
            left = deadline * slowdown - (time.monotonic() - begin)
            if slowdown < SLOW or left <= LEAST_EXTENSION:
                return 0.0
            self._extend(request, left)
            return left

        return more

    def _starved(self, request: dict[str, Any]) -> float:
        """Ask the host for how many seconds since its request it has kept us from running."""
        self._channel.send({"id": request["id"], "late": True})
        return float((self._channel.receive() or {}).get("starved", 0.0))

    def _extend(self, request: dict[str, Any], seconds: float) -> None:
        """Tell the host by how many seconds the answer will be late."""
        self._channel.send({"id": request["id"], "extend": seconds})

    def _restore_clock(self) -> None:
        """Undo what a case did to the clock, for the cases after it."""
        if self._epoch is not None and abs(time.time() - time.monotonic() - self._epoch) > CLOCK_SLACK:
            time.clock_settime(time.CLOCK_REALTIME, self._epoch + time.monotonic())

    def _place(self, request: dict[str, Any]) -> dict[str, Any]:
        from vm.guest import terminal

        terminal.place(request["files"])
        return {}

    def _shell(self, request: dict[str, Any]) -> dict[str, Any]:
        from vm.guest import terminal

        return terminal.relay(self._channel, request)

    def _replace_worker(self, request: dict[str, Any]) -> None:
        """Replace a dead worker, and kill all its leftover processes, also those in other sessions."""
        self._worker = None
        self._extend(request, FORK_SECONDS)
        if self._alone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # kill(2) with -1 spares init and this process
        with contextlib.suppress(OSError):  # the next call will report it
            self._worker = self._fork()

    def _fork(self) -> Worker:
        """Start a worker; after a fork bomb, init needs a while to reap the killed processes."""
        end = time.monotonic() + FORK_SECONDS
        while True:
            try:
                return Worker(close_in_child=[self._channel.reader], above=self._alone)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _drop_worker(self, request: dict[str, Any]) -> bool:
        """End the worker; return whether it could be ended."""
        worker, self._worker = self._worker, None
        if worker is None:
            return True
        self._extend(request, DIAGNOSIS_SECONDS)
        return worker.kill()


def calibrate() -> float:
    """Return the seconds a fixed piece of work takes: interpreter, allocation and system calls, as in a case."""
    reader, writer = os.pipe()
    begin = time.monotonic()
    for index in range(CALIBRATION_ROUNDS):
        data = bytes(index & 0xFF)
        if not index % 8:
            os.write(writer, data + b".")
            os.read(reader, 512)
    seconds = time.monotonic() - begin
    os.close(reader)
    os.close(writer)
    return seconds


def open_port(name: str, patience: float = 30.0) -> int:
    """Open the virtio-serial port `name` once it exists; TimeoutError after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for folder in Path("/sys/class/virtio-ports").glob("*"):
            if (folder / "name").read_text().strip() == name:
                return os.open(f"/dev/{folder.name}", os.O_RDWR | os.O_CLOEXEC)
        time.sleep(0.005)
    raise TimeoutError(f"there is no virtio port named {name}")


def main(descriptor: int | None = None, *, alone: bool = False) -> None:
    """Serve on an inherited descriptor, or on the control port."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Agent(Channel(open_port(PORT) if descriptor is None else descriptor), alone=alone).serve()
