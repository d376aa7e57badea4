# SPDX-License-Identifier: GPL-2.0-only
"""Ask the verifier which kinds of BPF programs may look into, update and delete from a SOCKMAP or SOCKHASH.

Nothing is attached and nothing runs: every step loads one program. An answer is `"ok"`, or the errno with what the
verifier minded before it: `map` (not that helper with this map, or not here), `helper` (not this helper in such a
program), `argument`, `context` (no such member of the context), `leak` (a socket is not given back) or `verifier`
(anything else). An errno alone was given before verification.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from bpf.guest import assemble as asm
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS
from bpf.guest.contexts import Context
from conformance.guestlib.answers import error_name

_COMPLAINTS = (
    ("map", ("cannot pass map_type", "cannot update sockmap in this context", "Sleepable programs can only use")),
    ("helper", ("unknown func", "invalid func", "cannot use helper")),
    ("leak", ("Unreleased reference",)),
    ("context", ("invalid bpf_context access",)),
    ("argument", ("expected=", "invalid arg_type for sockmap/sockhash")),
)

FORBIDDEN = "EPERM"
"""The answer to loading where it does not come to verification and the kind of program is known."""

LOOKUP, UPDATE, DELETE, RELEASE = 1, 2, 3, 86
_SOCK_UPDATE = {"sockmap": 53, "sockhash": 70}
_SK_REDIRECT = {"sockmap": 52, "sockhash": 72}
_MSG_REDIRECT = {"sockmap": 60, "sockhash": 71}
_SELECT_REUSEPORT = 82

_KEY = asm.store(asm.STACK, -8, 0) + asm.store(asm.STACK, -16, 0) + asm.move(asm.R6, asm.R1)
"""The key is at the end of the stack, a value before it, the context in R6."""
_POINT_AT_KEY = asm.move(asm.R2, asm.STACK) + asm.add(asm.R2, -8)


def run(params: Mapping[str, str]) -> dict[str, Any]:
    """Load the probes for `program`, a name from `CONTEXTS`, and `map`; `load` is the smallest program there is.

    `available`, alone, says that such programs are forbidden here, even to root: a kernel that is locked down.
    """
    context = CONTEXTS[params["program"]]
    steps = {"load": try_load(context, b"")}
    if steps["load"] == FORBIDDEN:
        return {"steps": {"available": FORBIDDEN}}
    if steps["load"] == "ok":
        descriptor = syscall.create_map(syscall.MAP_TYPES[params["map"]], 4, 4, 1)
        other = syscall.create_map(syscall.MAP_TYPES["array"], 4, 4, 1)
        try:
            for name, code in _probes(context, params["map"], descriptor, other):
                steps[name] = try_load(context, _KEY + code)
        finally:
            os.close(descriptor)
            os.close(other)
    return {"steps": steps}


def try_load(context: Context, code: bytes) -> str:
    """Load a program that does this and then returns what its kind must return; the answer as in the module."""
    code += asm.put(asm.R0, context.answer) + asm.EXIT
    try:
        number, minded = asm.verify(context, code)
    except LookupError:
        return "no such function"
    if not number:
        return "ok"
    if not minded:
        return error_name(number)
    reasons = (name for name, texts in _COMPLAINTS if any(text in minded for text in texts))
    return f"{next(reasons, 'verifier')}:{error_name(number)}"


def _probes(context: Context, kind: str, descriptor: int, other: int) -> Iterator[tuple[str, bytes]]:
    it = asm.put_map(asm.R1, descriptor) + _POINT_AT_KEY
    update = asm.put(asm.R4, 0) + asm.call(UPDATE)
    found = it + asm.call(LOOKUP)
    give_back = asm.move(asm.R1, asm.R7) + asm.call(RELEASE)
    value = asm.move(asm.R3, asm.STACK) + asm.add(asm.R3, -16)
    array = asm.put_map(asm.R1, other) + _POINT_AT_KEY
    yield "update and delete from an array", array + value + update + array + asm.call(DELETE)
    yield "delete", it + asm.call(DELETE)
    yield "look up, release", found + asm.unless_zero(asm.R0, asm.move(asm.R7, asm.R0) + give_back)
    yield "look up, keep", found
    yield (
        "update with a socket looked up",
        found + asm.unless_zero(asm.R0, asm.move(asm.R7, asm.R0) + it + asm.move(asm.R3, asm.R7) + update + give_back),
    )
    if context.socket is not None:
        own = asm.load(asm.R3, asm.R6, context.socket)
        yield "update with its own socket", own + asm.unless_zero(asm.R3, it + update)
    yield "update with no socket", it + value + update
    yield from _helpers(kind, descriptor)


def _helpers(kind: str, descriptor: int) -> Iterator[tuple[str, bytes]]:
    """Yield the helpers that take the program's context and a map of sockets."""
    start = asm.move(asm.R1, asm.R6) + asm.put_map(asm.R2, descriptor)
    pointer = asm.move(asm.R3, asm.STACK) + asm.add(asm.R3, -8) + asm.put(asm.R4, 0)
    number = asm.put(asm.R3, 0) + asm.put(asm.R4, 0)
    key = pointer if kind == "sockhash" else number
    yield "update helper", start + pointer + asm.call(_SOCK_UPDATE[kind])
    yield "sk redirect helper", start + key + asm.call(_SK_REDIRECT[kind])
    yield "msg redirect helper", start + key + asm.call(_MSG_REDIRECT[kind])
    yield "select reuseport helper", start + pointer + asm.call(_SELECT_REUSEPORT)
