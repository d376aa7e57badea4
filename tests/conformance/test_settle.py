# SPDX-License-Identifier: GPL-2.0-only
"""pytest's output for a judgement: `-v` and plain pytest show a guest's text without control characters."""

from __future__ import annotations

import pytest
from _pytest.outcomes import Failed, Skipped, XFailed

from conformance.model import Ground, Judgement, Source, Verdict
from conformance.run.plugin import _settle

NASTY = "\x1b[2J\x07\u202e\ud800\r\nPASSED"


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [(Verdict.SKIP, Skipped), (Verdict.XFAIL, XFailed), (Verdict.FAIL, Failed), (Verdict.INFRA, Failed)],
)
def test_pytest_is_given_lines_that_are_safe_to_print(verdict: Verdict, outcome: type[BaseException]) -> None:
    """The message of every outcome has no line feeds from the guest."""
    ground = Ground(file=NASTY, row=NASTY, source=Source.PROMISE, commit=NASTY, subject=NASTY)
    judgement = Judgement(verdict, NASTY, NASTY, NASTY, (NASTY,), grounds=(ground,))
    with pytest.raises(outcome) as raised:
        _settle(judgement)
    lines = str(raised.value).splitlines()
    assert len(lines) == (4 if outcome is Failed else 1)
    assert all(line.isprintable() for line in lines)
