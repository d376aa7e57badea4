# SPDX-License-Identifier: GPL-2.0-only
"""Messages whose bytes tell where they belong, and what was received in terms of what was sent."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from itertools import count, groupby, islice

from conformance.guestlib.traffic import Messages

_WORD = struct.Struct(">I")
_numbers = count(1)


def message(size: int) -> bytes:
    """Return bytes that this process never sent before; no four-byte word of them is there twice."""
    words = -(-size // _WORD.size)
    return struct.pack(f">{words}I", *islice(_numbers, words))[:size]


def told(messages: Messages, parts: Mapping[str, bytes]) -> str:
    """Say what was received, in order: names of parts, `empty`, ends and errors; `"nothing"` if there is nothing.

    A piece of a part is written as a slice: `second[4:9]`. An end or an error that repeats itself is told once.
    """
    found: list[str] = []
    for is_data, each in groupby(messages, lambda one: isinstance(one, bytes) and one != b""):
        if is_data:
            found += _recognised(b"".join(one for one in each if isinstance(one, bytes)), parts)
        else:
            others = [one.removeprefix("!") if isinstance(one, str) else "empty" for one in each]
            found += [one for one, _ in groupby(others)]
    return " + ".join(found) or "nothing"


def _recognised(data: bytes, parts: Mapping[str, bytes]) -> Iterator[str]:
    while data:
        matches = (_match(data, name, part) for name, part in parts.items())
        name, start, length = max(matches, key=lambda one: one[2], default=("", 0, 0))
        if not length:
            yield f"{len(data)} bytes never sent"
            return
        whole = length == len(parts[name])
        yield name if whole else f"{name}[{start}:{start + length}]"
        data = data[length:]


def _match(data: bytes, name: str, part: bytes) -> tuple[str, int, int]:
    """Return where in a part the data begins, and how many bytes of it are there."""
    anchor = data[: _WORD.size]
    start = 0 if data.startswith(part) else part.find(anchor)
    if start < 0:
        return name, 0, 0
    common = next((n for n, (one, other) in enumerate(zip(data, part[start:], strict=False)) if one != other), None)
    return name, start, min(len(data), len(part) - start) if common is None else common
