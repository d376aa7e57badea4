# SPDX-License-Identifier: GPL-2.0-only
"""What is covered, as the README's table: made from the cases themselves, so that it cannot lag behind them.

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
    """Return the table as Markdown: a row for each group with its number of cases, its promise and what varies."""
    rows = ["| test | cases | the promise | what varies |", "|---|---|---|---|"]
    total = 0
    for group in GROUPS.values():
        cases = group.cases()
        total += len(cases)
        rows.append(f"| `test_{group.name}` | {len(cases)} | {group.promise} | {', '.join(_varying(cases))} |")
    return "\n".join([*rows, f"| | **{total}** | | |", ""])


def inserted(readme: str) -> str:
    """Return a README's text with the table as it should be."""
    return _TABLE.sub(lambda _: table(), readme)


def _varying(cases: Sequence[Case]) -> Iterator[str]:
    for name in dict.fromkeys(name for case in cases for name in case.params):
        values = {case.params[name] for case in cases if name in case.params}
        if len(values) > 1:
            yield f"{len(values)} {name}"


if __name__ == "__main__":
    README.write_text(inserted(README.read_text()))
