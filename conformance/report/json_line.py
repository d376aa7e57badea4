# SPDX-License-Identifier: GPL-2.0-only
"""Write JSON that every reader accepts: no NaN, and no half of a surrogate pair."""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F]..)|\\.")
"""An escape in a line of JSON; group `half` matches half of a surrogate pair."""
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.?(?P<where>.*)`", re.DOTALL)
"""An error message of msgspec: what is wrong, and where."""
_LONGEST = 200
"""Characters of an error message, which may quote the value."""


def written(values: Any, default: Callable[[Any], Any]) -> str:
    """Return the values as one line of ASCII; `default` converts values that are not JSON."""
    try:
        line = json.dumps(values, default=default, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return repaired(json.dumps(values, default=default))
    return _spelt(line)


def repaired(line: str | bytes) -> str:
    """Return a line that only Python reads as valid JSON for all readers; empty if Python does not read it.

    Numbers that JSON lacks, which a guest may answer, become their names: `"NaN"`, `"Infinity"`.
    """
    try:
        return _spelt(json.dumps(json.loads(line, parse_constant=str), separators=(",", ":")))
    except (ValueError, RecursionError):
        return ""


def located(message: str) -> str:
    """Put the place before msgspec's message: "`seconds`: expected `float`, got `str`"."""
    found = _PLACE.fullmatch(message)
    what, where = (found["what"], found["where"]) if found else (message, "")
    sentence = f"{what[:1].lower()}{what[1:]}"
    return f"`{where}`: {sentence}"[:_LONGEST] if where else sentence[:_LONGEST]


@contextlib.contextmanager
def collected_later() -> Iterator[None]:
    """Turn the garbage collector off while a log is read, which makes no cycles: it took 7 of 10 seconds."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # The objects live as long as the process: without this, the next collection would visit them all.
        gc.freeze()
        if enabled:
            gc.enable()


def _spelt(line: str) -> str:
    """Replace each half of a surrogate pair by the text of its escape.

    Python reads the byte 0xff of a command line as U+DCFF, which UTF-8 cannot encode.
    """
    if "\\ud" not in line and "\\uD" not in line:
        return line
    return _ESCAPE.sub(lambda found: f"\\{found[0]}" if found["half"] else found[0], line)
