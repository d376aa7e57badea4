# SPDX-License-Identifier: GPL-2.0-only
r"""Foreign text on its way to a person: each format has one function here, and no text goes around it.

Foreign is what a guest, an image, a patch, a tree or somebody's event log says. It may hold escape sequences for a
terminal, characters that reverse a line, surrogates that no stream encodes, or the markup of the format that it ends up
in. All functions spell what a reader would not see as Python does: `\x1b`. HTML needs `visible`, and a template engine
that escapes.
"""

from __future__ import annotations

import re

TAB = 4
"""Columns."""

_BREAKS = re.compile(r"[ \t]*\r*\n[ \t]*")
_MARKUP = re.compile(r"[\\`*{}\[\]<>|#~&]|\b_|_\b|\B_\B")
"""The characters that Markdown interprets; it does not interpret an underscore within a word."""


def visible(text: str) -> str:
    """Return text of several lines with every invisible character escaped, except tabs and line feeds."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _spelt(ord(each)) for each in text)


def line(text: str) -> str:
    """Return text as one line, so that foreign text cannot fake a line of ours."""
    if text.isprintable():
        return text
    return visible(_BREAKS.sub(" ", text).expandtabs(TAB)).replace("\n", " ")


def page(text: str) -> str:
    """Return text for a file that people print with cat(1); a serial console's carriage returns are left out."""
    return visible(re.sub(r"\r+\n", "\n", text))


def xml(text: str) -> str:
    """Return text that XML 1.0 can hold, not yet escaped: ElementTree does that."""
    # All that XML forbids (C0 controls, surrogates, U+FFFE and U+FFFF) is unprintable.
    return visible(text)


def xml_property(text: str) -> str:
    """Return text that cannot end the `[[PROPERTY|name=value]]` it is put into."""
    return line(" ".join(text.split())).replace("]", r"\x5d").replace("|", r"\x7c")


def ktap(text: str) -> str:
    """Return text for the name of a KTAP result, in which `#` would begin a directive."""
    return line(text).strip().replace("#", r"\x23")


def markdown(text: str) -> str:
    """Return text so that Markdown shows it as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", line(text)).strip()


def markdown_code(text: str) -> str:
    """Return text as code within a line, its fence longer than any in it."""
    shown = line(text)
    fence = "`" * (max((len(each) for each in re.findall("`+", shown)), default=0) + 1)
    pad = " " * (len(fence) > 1)
    return f"{fence}{pad}{shown}{pad}{fence}"


def _spelt(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
