# SPDX-License-Identifier: GPL-2.0-only
"""Answer the host's requests: load modules, call functions in a worker, hand over the kernel log."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vm.guest.bundle import BundleFinder
from vm.guest.frames import Channel
from vm.guest.kmsg import KernelLog
from vm.guest.worker import Worker

PORT = "ctl"
CALIBRATION_ROUNDS = 20_000


class Agent:
    """One per machine; the host asks one thing at a time."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._finder = BundleFinder()
        sys.meta_path.insert(0, self._finder)
        self._kmsg = KernelLog()
        self._worker: Worker | None = None
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "hello": self._hello,
            "load": self._load,
            "call": self._call,
            "log": lambda request: self._kmsg.window(),
            "calibrate": lambda request: {"seconds": calibrate()},
        }

    def serve(self) -> None:
        """Answer until the host closes the channel."""
        while (request := self._channel.receive()) is not None:
            try:
                answer = self._operations[request["op"]](request)
            except Exception:
                answer = {"fate": "failed", "error": traceback.format_exc()}
            self._channel.send(answer | {"id": request["id"]})
        if self._worker is not None:
            self._worker.kill()

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        """Introduce ourselves; a restored guest also learns what time it is."""
        if request.get("clock") is not None:
            time.clock_settime(time.CLOCK_REALTIME, request["clock"])
        return {"release": os.uname().release, "modules": self._finder.digests()}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take over changed modules; their old versions go, and the worker that may have imported them."""
        if self._finder.update(request["names"], request["sources"]):
            self._drop_worker()
        self._worker = self._worker or self._fork()
        return {}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the worker call a function; the answer carries the kernel log since the last call."""
        self._worker = self._worker or self._fork()
        answer = self._worker.call(
            {"function": request["function"], "arguments": request["arguments"]}, request["deadline"]
        )
        if answer["fate"] == "died":
            self._worker = None
        elif answer["fate"] == "overran":
            self._drop_worker()
        return answer | self._kmsg.window()

    def _fork(self) -> Worker:
        return Worker(close_in_child=[self._channel.reader])

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None


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


def main(descriptor: int | None = None) -> None:
    """Serve on an inherited descriptor, or on the control port."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Agent(Channel(open_port(PORT) if descriptor is None else descriptor)).serve()
