# SPDX-License-Identifier: GPL-2.0-only
"""Generate the parts of docs/ that describe the code, so that they stay up to date.

A page marks such a part by `<!-- generated: NAME -->` and `<!-- /generated -->`. `python -m tests.generated_docs`
writes all parts; a test fails while a page differs.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from unittest import mock

from conformance import cli
from conformance.groups import GROUPS
from conformance.model import Case
from conformance.report.formats import FORMATS

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)
_COLUMNS: Final = 100
_COMMAND: Final = re.compile(r"^    ([a-z]+)(?: |$)", re.MULTILINE)


def cases() -> str:
    """Return a table of the groups: the promise of each, and the parameters of its cases.

    It counts nothing, so another case of a group leaves it as it is.
    """
    rows = [f"| `{group.name}` | {group.promise} | {', '.join(_varying(group.cases()))} |" for group in GROUPS.values()]
    return "\n".join(["| group | promise | parameters |", "|---|---|---|", *rows, ""])


def options() -> str:
    """Return the help of every command."""
    parts = [f"## {name}\n\n```\n{_help_of(name)}```\n" for name in commands()]
    return "\n".join(parts)


def formats() -> str:
    """Return a table of the formats of reports."""
    rows = [f"| `{name}` | {each.reader} |" for name, each in FORMATS.items()]
    return "\n".join(["| format | for |", "|---|---|", *rows, ""])


PARTS: Final[Mapping[str, Callable[[], str]]] = {"cases": cases, "options": options, "formats": formats}


def written(page: str) -> str:
    """Return a page's text with its generated parts; KeyError for the name of an unknown part."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}{part[3]}", page)


def pages() -> list[Path]:
    """Return the pages that have generated parts."""
    return [page for page in sorted(DOCS.glob("*.md")) if _PART.search(page.read_text(encoding="utf-8"))]


def commands() -> Sequence[str]:
    """Return the names of all commands, in the order of `./conform --help`."""
    return [name for name in _COMMAND.findall(_help_of()) if name != "test"]


def _help_of(*command: str) -> str:
    shown = io.StringIO()
    plain = {"COLUMNS": str(_COLUMNS), "NO_COLOR": "1"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        cli.parse([*command, "--help"])
    return shown.getvalue()


def _varying(cases: Sequence[Case]) -> Iterator[str]:
    for name in dict.fromkeys(name for case in cases for name in case.params):
        if len({case.params[name] for case in cases if name in case.params}) > 1:
            yield name


if __name__ == "__main__":
    for each in pages():
        each.write_text(written(each.read_text(encoding="utf-8")), encoding="utf-8")
