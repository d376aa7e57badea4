# SPDX-License-Identifier: GPL-2.0-only
"""Check everything that comes from a guest, and make it into values that other modules may trust.

A guest's kernel is under test and may be hostile; its agent may send anything. Here every field is
held to its type and its range, numbers are finite, text can be encoded, and nothing is larger than a case
needs. Everything else raises NonsenseError, and is a finding about that kernel.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from vm.guest.kmsg import LINES, TEXT
from vm.machine import CallStatus, LogLine, Reply

FRAME_LIMIT = 8 << 20
"""Bytes: room for the longest log there can be, every character of it escaped. JSON takes 30 times that to hold."""

VALUE_NODES = 100_000
VALUE_DEPTH = 32
VALUE_TEXT = 1 << 20
ERROR_TEXT = 64 << 10
TRACE_TEXT = 1 << 20
EVIDENCE = 160
"""Characters shown of a frame that makes no sense."""

MODULES = 10_000
LONGEST_EXTENSION = 3600.0
WORD = 1 << 64
LATEST = 1 << 62
"""Microseconds on the kernel's clock, which counts nanoseconds in 64 bits; conformance/report/plausible.py."""

_RELEASE = re.compile(r"[0-9A-Za-z][\w.+~@:,=^-]{0,63}", re.ASCII)
_STATUSES = {**{str(status): status for status in CallStatus}, "died": CallStatus.RAISED, "failed": CallStatus.LOST}
"""A worker that died counts as an exception of the case; the agent has started a new one."""

_SHORT = reprlib.Repr()
"""Shows values that may be nested a thousand levels deep."""
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, EVIDENCE, EVIDENCE

_T = TypeVar("_T")


class NonsenseError(ValueError):
    """The guest sent something that a correct agent never sends."""


@dataclass(frozen=True, slots=True)
class Hello:
    """How an agent introduces itself."""

    release: str
    modules: Mapping[str, str]
    """The guest code it holds: module name to digest."""
    vmcoreinfo: tuple[int, ...]
    """Physical address and size of the note for debuggers; empty for none."""


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of the kernel's log."""

    before: tuple[LogLine, ...]
    log: tuple[LogLine, ...]
    complete: bool
    taint: int
    cut: str
    """What was left out of a log that was too long; empty for nothing."""


def evidence(frame: object) -> str:
    """Return the beginning of a guest's text, in printable ASCII."""
    text = _SHORT.repr(frame).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= EVIDENCE else f"{text[:EVIDENCE]}..."


def number_of(frame: Mapping[str, Any]) -> int:
    """Return the number of the request that a frame belongs to."""
    return _integer(frame, "id", 0, WORD - 1)


def is_late(frame: Mapping[str, Any]) -> bool:
    """Whether the agent asks how long the host kept it from running."""
    return bool(_field(frame, "late", bool, default=False))


def extension(frame: Mapping[str, Any]) -> float | None:
    """Return the seconds by which the answer will be late; None if the frame is the answer."""
    return _seconds(frame, "extend", LONGEST_EXTENSION) if "extend" in frame else None


def failure(frame: Mapping[str, Any]) -> str | None:
    """Return the last line of the error that an agent reports; None if it reports none."""
    if frame.get("status") != "failed":
        return None
    lines = _text(frame, "error", ERROR_TEXT).strip().splitlines()
    return lines[-1] if lines else "it does not say why"


def hello(frame: Mapping[str, Any]) -> Hello:
    """Read the answer to `hello`."""
    release = _field(frame, "release", str)
    if not _RELEASE.fullmatch(release):
        raise NonsenseError(f"{evidence(release)} is not a kernel release")
    modules = _field(frame, "modules", dict)
    if len(modules) > MODULES or not all(isinstance(digest, str) for digest in modules.values()):
        raise NonsenseError("its modules are not digests by name")
    note = _field(frame, "vmcoreinfo", list)
    if len(note) not in (0, 2) or not all(_is_integer(each, 0, WORD - 1) for each in note):
        raise NonsenseError(f"{evidence(note)} is not an address and size")
    return Hello(release, modules, tuple(note))


def calibration(frame: Mapping[str, Any]) -> float:
    """Return the seconds that a fixed piece of work took."""
    return _seconds(frame, "seconds", 3600.0)


def window(frame: Mapping[str, Any]) -> Window:
    """Read the kernel's log out of an answer."""
    budget = [LINES, TEXT]
    before = _lines(frame, "before", budget)
    log = _lines(frame, "log", budget)
    dropped = _integer(frame, "dropped", 0, WORD - 1, default=0)
    total = sum(len(frame.get(name) or ()) for name in ("before", "log")) + dropped
    cut = ""
    if dropped or min(budget) < 0:
        cut = f"the kernel logged {total} lines, of which the first {len(before) + len(log)} were kept"
    complete = bool(_field(frame, "log_complete", bool, default=False))
    taint = _integer(frame, "taint", 0, WORD - 1, default=0)
    return Window(before, log, complete and not cut, taint, cut)


def reply(frame: Mapping[str, Any]) -> tuple[Reply, bool]:
    """Read the answer to a call, and whether the machine may be asked again."""
    name = _field(frame, "status", str)
    if name not in _STATUSES:
        raise NonsenseError(f"{evidence(name)} is not a status")
    status = _STATUSES[name]
    read = window(frame)
    usable = status in (CallStatus.ANSWERED, CallStatus.RAISED) and not _field(frame, "spent", bool, default=False)
    answer = Reply(
        status=status,
        value=value(frame.get("value")),
        error=_text(frame, "error", ERROR_TEXT),
        log=read.log,
        before=read.before,
        log_complete=read.complete,
        taint=read.taint,
        trace=_text(frame, "trace", TRACE_TEXT),
        cut=read.cut,
    )
    return answer, usable


def screen(frame: Mapping[str, Any]) -> bytes | None:
    """Return output for the terminal; None if the frame is the answer."""
    if "screen" not in frame:
        return None
    try:
        return base64.b64decode(_field(frame, "screen", str), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NonsenseError(f"what a terminal shows is not base64: {error}") from error


def status(frame: Mapping[str, Any]) -> int:
    """Return the exit status of a command."""
    return _integer(frame, "status", -255, 255, default=0)


def value(whole: Any) -> Any:
    """Return a function's result, limited to JSON's types and to the size that a case may need."""
    left = [VALUE_NODES, VALUE_TEXT]

    def walk(part: Any, depth: int) -> Any:
        left[0] -= 1
        left[1] -= len(part) if isinstance(part, str) else 0
        if left[0] < 0 or left[1] < 0 or depth > VALUE_DEPTH:
            raise NonsenseError(
                f"what the function returned is too much: more than {VALUE_NODES} values, {VALUE_TEXT} characters, or"
                f" {VALUE_DEPTH} levels"
            )
        if part is None or isinstance(part, bool):
            return part
        if isinstance(part, str):
            return encodable(part)
        if isinstance(part, int):
            return _checked(part, abs(part) < WORD, "is larger than any number of a kernel")
        if isinstance(part, float):
            return _checked(part, math.isfinite(part), "is not a number")
        if isinstance(part, list):
            return [walk(each, depth + 1) for each in part]
        if isinstance(part, dict):
            return {walk(key, depth + 1): walk(each, depth + 1) for key, each in part.items()}
        raise NonsenseError(f"{evidence(part)} is not a JSON value")

    return walk(whole, 0)


def encodable(text: str) -> str:
    """Return text as UTF-8 can carry it: JSON may hold halves of surrogate pairs."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _checked(part: _T, fine: bool, otherwise: str) -> _T:
    if not fine:
        raise NonsenseError(f"{evidence(part)} {otherwise}")
    return part


_REQUIRED: Any = object()


def _field(frame: Mapping[str, Any], name: str, kind: type[_T], *, default: Any = _REQUIRED) -> _T:
    found = frame.get(name, default)
    if found is _REQUIRED or not isinstance(found, kind):
        wrong = "is missing" if found is _REQUIRED else f"is {evidence(found)}, no {kind.__name__}"
        raise NonsenseError(f"{name!r} {wrong}")
    return found


def _is_integer(found: object, least: int, most: int) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and least <= found <= most


def _integer(frame: Mapping[str, Any], name: str, least: int, most: int, *, default: Any = _REQUIRED) -> int:
    found = _field(frame, name, int, default=default)
    if not _is_integer(found, least, most):
        raise NonsenseError(f"{name!r} is {evidence(found)}, which is not a number from {least} to {most}")
    return found


def _seconds(frame: Mapping[str, Any], name: str, most: float) -> float:
    found: object = frame.get(name)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not is_number or not 0 <= found <= most:  # type: ignore[operator] # False for NaN
        raise NonsenseError(f"{name!r} is {evidence(found)}, which is not a time from 0 to {most:g} s")
    return float(found)  # type: ignore[arg-type]


def _text(frame: Mapping[str, Any], name: str, most: int) -> str:
    """Return a text; if it is too long, its beginning and its end."""
    found = encodable(_field(frame, name, str, default=""))
    if len(found) <= most:
        return found
    half = most // 2
    return f"{found[:half]}\n[... {len(found) - 2 * half} characters left out ...]\n{found[-half:]}"


def _lines(frame: Mapping[str, Any], name: str, budget: list[int]) -> tuple[LogLine, ...]:
    """Read as many lines as the budget of lines and characters has room for; a negative one means that there were more.

    The first lines are kept, because the first error matters most.
    """
    lines = []
    for record in _field(frame, name, list, default=[]):
        if not (
            isinstance(record, list)
            and len(record) == 4
            and _is_integer(record[0], 0, WORD - 1)
            and _is_integer(record[1], 0, 7)
            and _is_integer(record[2], 0, LATEST)
            and isinstance(record[3], str)
        ):
            raise NonsenseError(f"{evidence(record)} is not a line of the kernel's log")
        budget[0] -= 1
        budget[1] -= len(record[3])
        if min(budget) < 0:
            break
        lines.append(LogLine(record[0], record[1], record[2], encodable(record[3])))
    return tuple(lines)
