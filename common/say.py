# SPDX-License-Identifier: GPL-2.0-only
"""Printing: what a command says, with foreign text made visible, and an error where nobody gets to read it.

If the reader of the output went away, as `head` does, that is not an error: UnreadError ends the command silently.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from common import foreign
from common.errors import HostError, UnreadError
from common.streams import discard


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one line, on standard output by default; HostError if it cannot be written."""
    put([foreign.line(text)], sys.stdout if stream is None else stream)


def note(text: str) -> None:
    """Print one line about a slow step, on standard error; a failure to print is ignored."""
    try:
        say(text, sys.stderr)
    except (HostError, UnreadError):
        return


def hush(text: str) -> None:
    """Take a line about what takes time and print nothing: for those who asked for quiet."""


def add(lines: Iterable[str], stream: TextIO) -> None:
    """Print lines behind a verdict, which stands although their reader went away; else the same as `put`."""
    with contextlib.suppress(UnreadError):
        put(lines, stream)


def put(lines: Iterable[str], stream: TextIO) -> None:
    """Print lines in which foreign text is visible already; HostError if they cannot be written."""
    encoding = stream.encoding or "utf-8"
    text = "".join(f"{each}\n" for each in lines)
    with _readable(stream):
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()


def put_bytes(text: bytes, stream: TextIO) -> None:
    """Print a rendered report; HostError if it cannot be written."""
    with _readable(stream):
        stream.buffer.write(text)
        stream.flush()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Within this context, print() of any code raises UnreadError or HostError if its output cannot be written."""
    with contextlib.redirect_stdout(cast("TextIO", _Guarded(sys.stdout))):
        try:
            yield
        finally:
            sys.stdout.flush()


class _Guarded:
    """A stream that says what is wrong with it in our words."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _readable(self._stream):
            return self._stream.write(text)

    def flush(self) -> None:
        with _readable(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _readable(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        silence(stream)
        raise UnreadError(*error.args) from error
    except OSError as error:
        silence(stream)
        raise unwritable(error) from error


def silence(stream: TextIO) -> None:
    """Drop the unwritten data of a stream: Python would fail to write it again at exit, and exit with 120."""
    with contextlib.suppress(OSError, ValueError):
        discard(stream.fileno())


def unwritable(error: OSError) -> HostError:
    """Return the error for output that could not be written."""
    return HostError(
        f"cannot write to standard output: {error.strerror}",
        hint="free some space, or send the output elsewhere",
    )
