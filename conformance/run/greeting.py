# SPDX-License-Identifier: GPL-2.0-only
"""List the descriptors of a case that is set up for a shell; sent by `conform shell`, not used in a run.

This runs in the guest. Scenarios need not cooperate: the sockets are named by the variables, attributes and keys
that lead to them where the case is stopped.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

PATH = "/run/conform-case"
_CLOSERS = ("close", "tear_down", "__exit__")
"""The functions before which a case is stopped: as in vm/guest/worker.py."""
_DEEP = 4
"""Attributes and keys from a variable to a socket."""
MAP_TYPES = {"2": "array", "15": "sockmap", "18": "sockhash"}
"""Of enum bpf_map_type, those that cases make."""
PROGRAM_TYPES = {
    "13": "sock_ops",
    "14": "sk_skb",
    "16": "sk_msg",
    "21": "sk_reuseport",
    "26": "tracing",
    "30": "sk_lookup",
}
"""Of enum bpf_prog_type, those that cases attach."""


def run(params: Mapping[str, Any]) -> Any:
    """Carry out a case, and write the list of its descriptors when it is stopped."""
    module, _, name = params["scenario"].partition(":")
    stop: Any = sys.getprofile()

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name in _CLOSERS and code.co_filename.startswith("bundle:"):
            sys.setprofile(None)
            _write(params["case"], frame)
            stop(frame, event, argument)

    scenario = getattr(importlib.import_module(module), name)
    sys.setprofile(watch)
    return scenario(params["params"])


def _write(case: str, frame: FrameType) -> None:
    try:
        lines = [f"{case} is set up; paused before teardown. Process {os.getpid()} holds:", *described(frame)]
        with open(PATH, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
    except Exception:  # a shell without its greeting is better than none
        return


def described(frame: FrameType) -> Iterator[str]:
    """Yield a line for each socket, map and program that this process holds, by descriptor."""
    names = dict(_named(frame))
    for descriptor in sorted(int(each) for each in os.listdir("/proc/self/fd")):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
                facts = dict(re.findall(r"^(\w+):\s+(\S+)", file.read(), re.MULTILINE))
        except OSError:  # the descriptor of the listing itself
            continue
        if target.startswith("socket:"):
            yield f"  fd {descriptor:3}  {names.get(descriptor, 'socket'):12}  {_kind(descriptor)}"
        elif held := _bpf_object(facts):
            yield f"  fd {descriptor:3}  {held}"


def _bpf_object(facts: Mapping[str, str]) -> str:
    """Return the words for a map or a program, by what /proc says of its descriptor; empty for anything else."""
    for what, prefix, types in (("map", "map", MAP_TYPES), ("program", "prog", PROGRAM_TYPES)):
        if f"{prefix}_id" in facts:
            number = facts[f"{prefix}_type"]
            return f"{what:12}  {types.get(number, f'type {number}')}, id {facts[f'{prefix}_id']}"
    return ""


def _named(frame: FrameType | None) -> Iterator[tuple[int, str]]:
    """Yield descriptors and names of the sockets that the frames of guest code lead to, the innermost last."""
    frames = []
    while frame is not None:
        if frame.f_code.co_filename.startswith("bundle:"):
            frames.append(frame)
        frame = frame.f_back
    for each in reversed(frames):
        for name, value in each.f_locals.items():
            yield from _below(name, value, _DEEP)


def _below(name: str, value: Any, deep: int) -> Iterator[tuple[int, str]]:
    if isinstance(value, socket.socket):
        if value.fileno() >= 0:
            yield value.fileno(), {"in": "IN", "out": "OUT"}.get(name, name)
    elif deep and isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(key, str):
                yield from _below(key, each, deep - 1)
    elif deep and type(value).__module__ not in ("builtins", "socket"):
        for key, each in getattr(value, "__dict__", {}).items():
            yield from _below(key.lstrip("_"), each, deep - 1)


def _kind(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as each:
        family, kind = str(getattr(each.family, "name", each.family)), str(getattr(each.type, "name", each.type))
        try:
            name = each.getsockname()
        except OSError:
            name = ""
    return f"{family} {kind} {name}".rstrip()
