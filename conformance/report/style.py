# SPDX-License-Identifier: GPL-2.0-only
"""The style of reports: optional colour, plain ASCII if the stream needs it, never over 80 columns."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from common import foreign
from common.program import NEUTRAL, here, program

WIDTH = 80

_ANSI = {
    "good": "32",
    "refused": "33",
    "dropped": "36",
    "faint": "2",
    "strong": "1",
    "known": "35",
    "bad": "1;37;41",
    "fault": "31",
}
# ASCII replacements for the report's own punctuation.
_ASCII = str.maketrans({"…": "~", "─": "-", "█": "#", "░": "."})


@dataclass(frozen=True, slots=True)
class Style:
    """The capabilities of the output."""

    colour: bool = False
    unicode: bool = True
    program: str = NEUTRAL
    """The command that starts this program, from any directory:"""
    anywhere: str = NEUTRAL
    width: int = WIDTH
    """Columns of folded text."""

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """Detect the capabilities of a stream; https://no-color.org overrides https://force-color.org."""
        forced = os.environ.get("FORCE_COLOR", "") not in ("", "0")
        able = stream.isatty() and os.environ.get("TERM") != "dumb"
        colour = not os.environ.get("NO_COLOR") and (forced or able)
        calls = program(), program(anywhere=True)
        try:
            "●⊘⊗○─█…".encode(stream.encoding or "utf-8")
        except (UnicodeEncodeError, LookupError):
            return cls(colour, False, *calls)
        return cls(colour, True, *calls)

    def paint(self, text: str, *names: str) -> str:
        """Colour text except for trailing blanks; names as in the table above."""
        codes = ";".join(_ANSI[name] for name in names if name)
        bare = text.rstrip()
        return f"\x1b[{codes}m{bare}\x1b[0m{text[len(bare) :]}" if self.colour and codes and bare else text

    def call(self, text: str) -> str:
        """Return our own text, with its commands as the reader would type them."""
        return here(text, self.program)

    def show(self, text: str) -> str:
        """Return foreign text as one line that is safe to print, in characters that the stream can encode."""
        text = foreign.line(text)
        return text if self.unicode else text.translate(_ASCII).encode("ascii", "replace").decode()

    def cut(self, text: str, width: int) -> str:
        """Return one line no longer than `width`."""
        text = self.show(text)
        return text if len(text) <= width else text[: width - 1] + self.show("…")

    def wrap(self, text: str, *, first: str = "", then: str | None = None) -> list[str]:
        """Fold prose to the width; `first` opens its first line, `then` (default: as wide) the others."""
        indent = " " * len(first) if then is None else then
        folder = textwrap.TextWrapper(
            self.width,
            initial_indent=first,
            subsequent_indent=indent,
            break_on_hyphens=False,
            # A narrow terminal folds an id itself, so that it is pasted whole.
            break_long_words=self.width >= WIDTH,
        )
        return folder.wrap(self.show(text)) or [first.rstrip()]

    def flow(self, entries: Iterable[tuple[str, str, str]], *, gap: int) -> list[str]:
        """Fold entries (a sign, its colour, its words) to the page without breaking any."""
        lines: list[str] = []
        room = 0
        for mark, colour, full in entries:
            sign = self.show(mark)
            words = self.cut(full, WIDTH - len(sign) - 1)
            width = len(f"{sign} {words}".strip())
            entry = f"{self.paint(sign, colour)} {words}".strip()
            if lines and gap + width <= room:
                lines[-1] += " " * gap + entry
                room -= gap + width
            else:
                lines.append(entry)
                room = WIDTH - width
        return lines
