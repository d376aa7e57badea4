# SPDX-License-Identifier: GPL-2.0-only
"""Measure the time of a scenario's functions in the guest: sent by `conformance.commands.profile`, not used in a run.

Only functions written in C are timed, because they make the system calls, and only while they run: what is
left of a case is Python. The hook costs nothing inside of them, but it makes Python slower; so a case is run a
second time without it, and what that run took is the total.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

_COMMANDS = {
    0: "create map", 1: "look up", 2: "update", 3: "delete", 5: "load program", 8: "attach", 9: "detach",
    11: "next program", 12: "next map", 31: "next link",
}  # fmt: skip
"""Commands of bpf(2) by their numbers."""

_LEAST = 2e-5
"""Seconds; a function that took less in total gets no line."""


class Stopwatch:
    """Adds up seconds and calls by C function and Python caller."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        self._begun: list[list[float]] = []
        """For each running C function: its start, and the seconds spent in functions that it called."""

    def hook(self, frame: FrameType, event: str, argument: Any) -> None:
        """Called by sys.setprofile()."""
        now = time.perf_counter()
        if event == "c_call":
            self._begun.append([time.perf_counter(), 0.0])
        elif event in ("c_return", "c_exception") and self._begun:
            begin, inner = self._begun.pop()
            if self._begun:
                self._begun[-1][1] += now - begin
            if not inner:  # time in called Python code is not the kernel's
                self.add(_named(argument, frame), now - begin)

    def add(self, name: str, seconds: float) -> None:
        """Count one call."""
        entry = self.spent.setdefault(name, [0, 0.0])
        entry[0] += 1
        entry[1] += seconds

    def around(self, function: Callable[..., int], command: int) -> Callable[..., int]:
        """Time a function of ctypes, which Python calls no hook for; argument `command` is the bpf(2) command."""

        def timed(*arguments: Any) -> int:
            begin = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                number = getattr(arguments[command], "value", arguments[command])
                self.add(f"bpf(2): {_COMMANDS.get(number, number)}", time.perf_counter() - begin)

        return timed


def run(params: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a case three times: once to warm up, once with the watch, and once for the total."""
    module, _, name = params["scenario"].partition(":")
    scenario = getattr(importlib.import_module(module), name)
    syscall = importlib.import_module("bpf.guest.syscall")
    scenario(params["params"])
    watch, plain = Stopwatch(), vars(syscall)["_syscall"]
    vars(syscall)["_syscall"] = watch.around(plain, 1)
    sys.setprofile(watch.hook)
    try:
        scenario(params["params"])
    finally:
        sys.setprofile(None)
        vars(syscall)["_syscall"] = plain
    begin, used = time.perf_counter(), os.times()
    scenario(params["params"])
    total, now = time.perf_counter() - begin, os.times()
    spent = {name: entry for name, entry in watch.spent.items() if entry[1] > _LEAST}
    return {"total": total, "user": now.user - used.user, "system": now.system - used.system, "spent": spent}


def _named(function: Any, frame: FrameType) -> str:
    caller = frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name
    return f"{getattr(function, '__qualname__', function)} in {caller}"
