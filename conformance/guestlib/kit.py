# SPDX-License-Identifier: GPL-2.0-only
"""Programs to attach that are told apart: `first` and `second` of each attach type, each counting its runs.

They are loaded once in a process and let everything pass, so that whether data arrives never depends on them.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from bpf.guest import assemble as asm
from bpf.guest import links
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS
from bpf.guest.contexts import Context
from conformance.guestlib import sockets
from conformance.guestlib.answers import error_name
from conformance.guestlib.patience import comes_true

TYPES = syscall.ATTACH_TYPES
"""Number of each attach type."""

Steps = dict[str, str]

_MAPS = {**syscall.MAP_TYPES, "prog_array": 3}

_SK_PASS = 1
_LENGTH = {"sk_msg": 68, "sk_skb": 0}
"""Offset of the data's length in the context of a program."""


@dataclass(frozen=True)
class Counting:
    """A loaded program that counts its runs."""

    descriptor: int
    id: int
    _counter: int

    def runs(self) -> int:
        """Return how often it has run."""
        return int(struct.unpack("=Q", syscall.lookup(self._counter, 0, 8))[0])


def family(attach_type: str) -> str:
    """Return the kind of program, by name in `CONTEXTS`, that goes with an attach type."""
    return attach_type[: len("sk_msg")]


@cache
def program(attach_type: str, which: str, *, declared: bool = False) -> Counting:
    """Return `first` or `second`; `declared` when it is loaded, too, for the attach type and nothing else."""
    kind = family(attach_type)
    counter = syscall.create_map(syscall.MAP_TYPES["array"], 4, 8, 1)
    count = asm.put_map_value(asm.R2, counter) + asm.put(asm.R1, 1)
    # A parser returns the length of the message: all there is.
    length = asm.move(asm.R6, asm.R1) + asm.load_word(asm.R0, asm.R6, _LENGTH[kind])
    if attach_type != "sk_skb_stream_parser":
        length += asm.put(asm.R0, _SK_PASS)
    context = Context(CONTEXTS[kind].type, TYPES[attach_type] if declared else 0)
    descriptor = asm.load_program(context, length + count + asm.count(asm.R2, 0) + asm.EXIT)
    return Counting(descriptor, links.program_id(descriptor), counter)


def make_map(keep: ExitStack, kind: str, size: int = 4) -> int:
    """Create a map, closed with `keep`, and return its descriptor."""
    descriptor = syscall.create_map(_MAPS[kind], 4, 4, size)
    keep.callback(os.close, descriptor)
    return descriptor


def reap(seconds: float = 4.0) -> None:
    """Wait until every psock dropped so far has been destroyed; OSError ETIMEDOUT when that does not come to pass.

    Destruction comes after a grace period, from a work queue, in order: a psock dropped now goes last, and the only
    program it holds goes with it.
    """
    with ExitStack() as keep:
        last = asm.load_program(CONTEXTS["sk_msg"], asm.put(asm.R0, _SK_PASS) + asm.EXIT)
        keep.callback(os.close, last)
        ends = sockets.pair("tcp4")
        for end in ends:
            keep.enter_context(end)
        target = make_map(keep, "sockmap", 1)
        links.attach(target, last, TYPES["sk_msg_verdict"])
        syscall.update(target, 0, ends[0].fileno())
        links.detach(target, last, TYPES["sk_msg_verdict"])
        identity = links.program_id(last)
    if not comes_true(lambda: not _exists(identity), seconds):
        raise OSError(errno.ETIMEDOUT, "a psock is not destroyed")


def _exists(identity: int) -> bool:
    try:
        os.close(links.program_by_id(identity))
    except FileNotFoundError:
        return False
    return True


def holder(target: int, attach_type: str, names: Mapping[int, str] | None = None) -> str:
    """Say which program a map holds: `none`, `first`, `second`, `another`, or the errno of the query."""
    try:
        found = links.query(target, TYPES[attach_type])
    except OSError as error:
        return error_name(error.errno or 0)
    known = {program(attach_type, which).id: which for which in ("first", "second")} | dict(names or {})
    return ", ".join(known.get(identity, "another") for identity in found) or "none"


def warm_up(params: Mapping[str, str]) -> dict[str, int]:
    """Load every program there is here and look up what is loaded by BTF id; returns how many this kernel has."""
    found = 0
    for context in CONTEXTS.values():
        with suppress(LookupError, OSError):
            os.close(asm.load_program(context, asm.put(asm.R0, context.answer) + asm.EXIT))
            found += 1
    for attach_type in TYPES:
        for which in ("first", "second"):
            program(attach_type, which)
    return {"programs": found}
