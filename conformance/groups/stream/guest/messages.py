# SPDX-License-Identifier: GPL-2.0-only
"""Messages with unique bytes, and the names of the messages that a socket received."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from itertools import count, groupby, islice

from conformance.guestlib.traffic import Messages

_WORD = struct.Struct(">I")
_numbers = count(1)


def message(size: int) -> bytes:
    """Return bytes that this process never sent before, without two equal four-byte words."""
    words = -(-size // _WORD.size)
    return struct.pack(f">{words}I", *islice(_numbers, words))[:size]


def named(messages: Messages, parts: Mapping[str, bytes]) -> str:
    """Name the received parts in order, with `empty`, `eof` and errnos between them; `"nothing"` without any.

    A piece of a part is written as a slice: `second[4:9]`. A repeated `eof` or errno is named once.
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
        length = _until_next(data, length, parts.values())
        whole = length == len(parts[name])
        yield name if whole else f"{name}[{start}:{start + length}]"
        data = data[length:]


def _until_next(data: bytes, length: int, parts: Collection[bytes]) -> int:
    """Return the length of a piece, shorter by the bytes that were equal by chance and begin another part."""
    for less in range(min(_WORD.size, length)):
        if any(data.startswith(part[: _WORD.size], length - less) for part in parts):
            return length - less
    return length


def _match(data: bytes, name: str, part: bytes) -> tuple[str, int, int]:
    """Return the name of the part, the place in it where the data begins, and the number of equal bytes."""
    anchor = data[: _WORD.size]
    start = 0 if data.startswith(part) else part.find(anchor)
    if start < 0:
        return name, 0, 0
    common = next((n for n, (one, other) in enumerate(zip(data, part[start:], strict=False)) if one != other), None)
    return name, start, min(len(data), len(part) - start) if common is None else common
