# SPDX-License-Identifier: GPL-2.0-only
"""Lines of JSON that every reader reads: no NaN, and no byte that is half a surrogate pair to Python."""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F]..)|\\.")
"""An escape in a line of JSON; `half` of a surrogate pair is no character."""
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.?(?P<where>.*)`", re.DOTALL)
"""How msgspec says what is wrong with a value, and where in its line."""
_LONGEST = 200
"""Characters of what is wrong with a value, which may quote it."""


def written(values: Any, default: Callable[[Any], Any]) -> str:
    """Return the values as one line of ASCII; `default` makes JSON of what is none."""
    try:
        line = json.dumps(values, default=default, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return repaired(json.dumps(values, default=default))
    return _spelt(line)


def repaired(line: str | bytes) -> str:
    """Return what Python reads as JSON as others do; nothing where Python does not read it.

    Of the numbers that JSON lacks, which a guest may answer, the name is left: `"NaN"`, `"Infinity"`.
    """
    try:
        return _spelt(json.dumps(json.loads(line, parse_constant=str), separators=(",", ":")))
    except (ValueError, RecursionError):
        return ""


def located(message: str) -> str:
    """Put the place before what msgspec says is wrong there: "`seconds`: expected `float`, got `str`"."""
    found = _PLACE.fullmatch(message)
    what, where = (found["what"], found["where"]) if found else (message, "")
    sentence = f"{what[:1].lower()}{what[1:]}"
    return f"`{where}`: {sentence}"[:_LONGEST] if where else sentence[:_LONGEST]


@contextlib.contextmanager
def collected_later() -> Iterator[None]:
    """Keep Python from looking for garbage while a log is read, which makes no cycles: it took 7 seconds in 10."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # What was read lives as long as the process: without this, the next collection visits all of it at once.
        gc.freeze()
        if enabled:
            gc.enable()


def _spelt(line: str) -> str:
    """Replace each half of a surrogate pair by the text of its escape.

    Python holds the byte 0xff of a command line as U+DCFF, which neither another reader nor a report can store.
    """
    if "\\ud" not in line and "\\uD" not in line:
        return line
    return _ESCAPE.sub(lambda found: f"\\{found[0]}" if found["half"] else found[0], line)
