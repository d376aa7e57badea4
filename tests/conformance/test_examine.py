# SPDX-License-Identifier: GPL-2.0-only
"""A case that is not put to a kernel still has its line in the event log."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.catalogue import redirect_cases
from conformance.examine import examine
from conformance.expect.lists import read_lists
from conformance.model import KernelFacts
from conformance.model import Verdict
from conformance.workbench import Workbench
from kernels.version import Version
from vm.machine import MachineOptions

CASE = redirect_cases()[0]


def test_a_denied_case_is_skipped_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is asked, and the record says who denied it until when."""
    path = tmp_path / "denied"
    path.write_text("redirect # loses a byte; link=https://example.org/1; kernel=6.12; until=2999-01-01\n")
    lists = read_lists([], [str(path)], [], universe=[CASE.id])
    workbench = Workbench({}, MachineOptions())
    monkeypatch.setattr(workbench, "facts", lambda slug: KernelFacts(Version(6, 12, 107), {}))
    judgement, record = examine(workbench, "debian-6.12", CASE, lists)

    assert judgement.verdict is Verdict.SKIP
    assert (record["id"], record["verdict"]) == (CASE.id, "skip")
    assert record["reason"] == "denied: loses a byte (https://example.org/1, until 2999-01-01)"
