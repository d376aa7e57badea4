# SPDX-License-Identifier: GPL-2.0-only
"""What is covered, as the README's table: made from the cases themselves, so that it cannot lag behind them.

It counts nothing: another case of a group leaves the table as it is, and every run says how many there are.
`python -m conformance.report.coverage` rewrites the table in the README; a test fails while the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

from conformance.groups import GROUPS
from conformance.model import Case

_ROOT = Path(__file__).resolve().parents[2]
README = _ROOT / "README.md"
_TABLE = re.compile(r"(?<=<!-- cases -->\n).*?(?=<!-- /cases -->)", re.DOTALL)


def table() -> str:
    """Return the table as Markdown: a row for each group with its promise and the parameters that vary."""
    rows = [
        f"| `test_{group.name}` | {group.promise} | {', '.join(_varying(group.cases()))} |" for group in GROUPS.values()
    ]
    return "\n".join(["| test | the promise | what varies |", "|---|---|---|", *rows, ""])


def inserted(readme: str) -> str:
    """Return a README's text with the table as it should be."""
    return _TABLE.sub(lambda _: table(), readme)


def _varying(cases: Sequence[Case]) -> Iterator[str]:
    for name in dict.fromkeys(name for case in cases for name in case.params):
        if len({case.params[name] for case in cases if name in case.params}) > 1:
            yield name


if __name__ == "__main__":
    README.write_text(inserted(README.read_text()))
