# SPDX-License-Identifier: GPL-2.0-only
"""A case that is not put to a kernel still has its line in the event log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance.catalogue import redirect_cases
from conformance.examine import examine
from conformance.expect.lists import read_lists
from conformance.groups.attach import attach_cases
from conformance.model import Case
from conformance.model import KernelFacts
from conformance.model import Verdict
from conformance.workbench import Workbench
from kernels import symbols
from kernels.version import Version
from tests.conformance.workbenches import WARNED
from tests.conformance.workbenches import WARNING
from tests.vm.nowhere import kernel
from vm.machine import Fate
from vm.machine import MachineOptions
from vm.machine import Reply

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


def test_a_case_known_to_harm_is_not_put_to_the_running_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel its user works on is not made to warn; a deviation that only answers otherwise is asked for."""
    harmful = next(case for case in attach_cases() if case.name == "frozen-sockmap-tcp4-parser-detach")
    host = SimpleNamespace(is_host=True)
    workbench = Workbench({"host": host}, MachineOptions())  # type: ignore[dict-item]
    monkeypatch.setattr(workbench, "facts", lambda slug: KernelFacts(Version(6, 12, 107), {}))
    asked: list[str] = []

    def ask(slug: str, case: Case, evidence: object) -> Reply:
        asked.append(case.id)
        return Reply(Fate.ANSWERED, {})

    monkeypatch.setattr(workbench, "ask", ask)
    judgement, _ = examine(workbench, "host", harmful)

    assert judgement.verdict is Verdict.SKIP
    assert judgement.reason == ("known to harm this kernel, which is the running one: strparser-left-running-detach")
    assert not asked
    examine(workbench, "host", CASE)
    assert asked


def test_a_splat_is_recorded_with_file_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text of a bad reply is decoded for itself, and the verdict is made of what the kernel said."""
    workbench = Workbench({"debian-6.12": kernel()}, MachineOptions())
    reply = replace(WARNED, before=(replace(WARNING, text="earlier x+0x1/0x2"),), console="last x+0x1/0x2")
    monkeypatch.setattr(workbench, "ask", lambda *arguments: reply)
    monkeypatch.setattr(symbols, "debug_image", lambda subject: subject.image)
    monkeypatch.setattr(symbols, "decode", lambda text, image, modules: text.replace("/0x2", "/0x2 (a.c:7)"))

    judgement, record = examine(workbench, "debian-6.12", CASE)

    assert "a.c" not in judgement.differences[0]
    assert [line["text"] for line in record["log"]] == ["earlier x+0x1/0x2 (a.c:7)", f"{WARNING.text} (a.c:7)"]
    assert record["console"] == "last x+0x1/0x2 (a.c:7)"
