# SPDX-License-Identifier: GPL-2.0-only
"""Examine one case: every case gets its line in the event log, also one that no kernel is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import HostError
from conformance.groups import cases
from conformance.groups.attach.cases import attach_cases
from conformance.groups.redirect.cases import redirect_cases
from conformance.judge.lists import read_lists
from conformance.model import Case, KernelFacts, Verdict
from conformance.run.machine_pool import MachinePool
from conformance.run.retries import Repetition
from conformance.run.try_case import examine
from kernels import symbols
from kernels.version import Version
from tests.conformance.pools import CASE as REDIRECT
from tests.conformance.pools import GOOD, PANICKED, SLUG, STRAY, WARNED, WARNING, ScriptedPool
from tests.vm.nowhere import kernel
from vm.machine import CallStatus, MachineOptions, Reply

LOST = Reply(status=CallStatus.LOST, error="QEMU was killed by SIGBUS", log_complete=False)

CASE = redirect_cases()[0]
SHOWING = {
    "attach/frozen-sockmap-tcp4-msg-detach": [],
    "attach/frozen-sockmap-tcp4-parser-detach": ["strparser-left-running"],
    "survive/drained-sockmap-udp4": [],
}
"""Cases, and the known defects of 6.12 that each shows; the last one shows another by chance."""


def test_a_denied_case_is_skipped_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is asked, and the record says who denied it until when."""
    path = tmp_path / "denied"
    path.write_text("redirect # loses a byte; link=https://example.org/1; kernel=6.12; until=2999-01-01\n")
    lists = read_lists([], [str(path)], [], universe=[CASE.id])
    pool = MachinePool({}, MachineOptions())
    monkeypatch.setattr(pool, "facts", lambda slug: KernelFacts(Version(6, 12, 107), {}))
    judgement, record = examine(pool, "debian-6.12", CASE, lists)

    assert judgement.verdict is Verdict.SKIP
    assert (record["id"], record["verdict"]) == (CASE.id, "skip")
    assert record["reason"] == "denied: loses a byte (https://example.org/1, until 2999-01-01)"


def test_a_case_known_to_harm_is_not_put_to_the_running_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """On `host`, a case that would make the kernel warn is not asked; one with only a wrong answer is."""
    harmful = next(case for case in attach_cases() if case.name == "frozen-sockmap-tcp4-parser-detach")
    host = SimpleNamespace(is_host=True, config={"CONFIG_BPF": "y"})
    pool = MachinePool({"host": host}, MachineOptions())  # type: ignore[dict-item]
    monkeypatch.setattr(pool, "facts", lambda slug: KernelFacts(Version(6, 12, 107), {}))
    asked: list[str] = []

    def ask(slug: str, case: Case, evidence: object) -> Reply:
        asked.append(case.id)
        return Reply(CallStatus.ANSWERED, {})

    monkeypatch.setattr(pool, "ask", ask)
    judgement, _ = examine(pool, "host", harmful)

    assert judgement.verdict is Verdict.SKIP
    assert judgement.reason == (
        "not run on the host's own kernel, which it could crash or hang: strparser-left-running"
    )
    assert not asked
    examine(pool, "host", CASE)
    assert asked


def test_a_record_says_which_defects_the_case_should_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defects for the case on this version, except those that show by chance; none if the case is not asked."""
    pool = MachinePool({SLUG: kernel()}, MachineOptions())
    monkeypatch.setattr(pool, "facts", lambda slug: KernelFacts(Version(6, 12, 107), {}))
    monkeypatch.setattr(pool, "ask", lambda *arguments: Reply(CallStatus.ANSWERED, {}))
    monkeypatch.setattr(pool, "lacking", lambda slug, case: {})
    asked = [case for case in cases() if case.id in SHOWING]
    shown = {case.id: examine(pool, SLUG, case)[1]["may_show"] for case in asked}

    assert shown == SHOWING
    path = tmp_path / "denied"
    path.write_text("attach # it is late; link=https://example.org/1; kernel=6.12; until=2999-01-01\n")
    denied = read_lists([], [str(path)], [], universe=[case.id for case in attach_cases()])
    assert all("may_show" not in examine(pool, SLUG, case, denied)[1] for case in asked if case.group == "attach")


def test_a_splat_is_recorded_with_file_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text of a failed reply is decoded separately, and the verdict uses the original text."""
    pool = MachinePool({"debian-6.12": kernel()}, MachineOptions())
    reply = replace(WARNED, before=(replace(WARNING, text="earlier x+0x1/0x2"),), console="last x+0x1/0x2")
    monkeypatch.setattr(pool, "ask", lambda *arguments: reply)
    monkeypatch.setattr(symbols, "debug_image", lambda subject: subject.image)
    monkeypatch.setattr(symbols, "decode", lambda text, image, modules: text.replace("/0x2", "/0x2 (a.c:7)"))

    judgement, record = examine(pool, "debian-6.12", CASE)

    assert "a.c" not in judgement.differences[0]
    assert [line["text"] for line in record["log"]] == ["earlier x+0x1/0x2 (a.c:7)", f"{WARNING.text} (a.c:7)"]
    assert record["console"] == "last x+0x1/0x2 (a.c:7)"


class TestTheLastCase:
    """After the last answer the kernel may still log something."""

    def _examined(self, late: Reply | None, answer: Reply = GOOD, *, last: bool = True) -> dict[str, Any]:
        pool = ScriptedPool(answer)
        pool.late = late
        _, record = examine(pool, SLUG, REDIRECT, how=Repetition(tries=1), last=last)
        return record

    def test_a_late_splat_is_seen(self) -> None:
        """A late splat fails the last case, and names it."""
        record = self._examined(Reply(status=CallStatus.ANSWERED, value=0, log=(WARNING,)))

        assert record["verdict"] == "splat"
        assert record["differences"][0].startswith(
            f"after {REDIRECT.id}, the machine's last case, the kernel logged: WARNING"
        )
        assert record["log"][0]["text"] == WARNING.text

    def test_a_late_panic_is_seen(self) -> None:
        """A kernel that dies after the last case gets its verdict."""
        assert self._examined(PANICKED)["verdict"] == "panic"

    def test_silence_is_fine(self) -> None:
        """A machine without late lines changes nothing, nor does one that is gone."""
        assert self._examined(Reply(status=CallStatus.ANSWERED, value=0))["verdict"] == "pass"
        assert self._examined(None)["verdict"] == "pass"

    def test_it_is_asked_only_then(self) -> None:
        """Between two cases of one machine the next case's window has the late lines."""
        late = Reply(status=CallStatus.ANSWERED, value=0, log=(WARNING,))

        assert self._examined(late, last=False)["verdict"] == "pass"

    def test_a_failed_case_is_asked_before_its_machine_goes(self) -> None:
        """The late log of a clone is read before a retry replaces it; the failure stays."""
        record = self._examined(Reply(status=CallStatus.ANSWERED, value=0, before=(WARNING,)), STRAY, last=False)

        assert record["verdict"] == "splat"
        assert len(record["differences"]) > 1


class TestTemplateThatChanged:
    """A guest whose memory was overwritten says nothing about its kernel."""

    def _examined(self, *answers: Reply, flaws: list[str]) -> dict[str, Any]:
        pool = ScriptedPool(*answers)
        pool.flaws = flaws
        _, record = examine(pool, SLUG, REDIRECT, how=Repetition(tries=1))
        assert not pool.answers
        return record

    def test_it_is_tried_again(self) -> None:
        """The meaningless try is infra, and the verdict is that of the next try."""
        record = self._examined(LOST, GOOD, flaws=["its ram has changed"])

        assert [(each["verdict"], each["fresh"]) for each in record["tries"]] == [("infra", False), ("pass", True)]
        assert (record["verdict"], record["flaky"]) == ("pass", False)
        assert "its ram has changed" in record["tries"][0]["differences"][0]

    def test_twice_is_infra(self) -> None:
        """If that happens twice the verdict is infra, and not lost."""
        record = self._examined(LOST, LOST, flaws=["its ram has changed"] * 2)

        assert record["verdict"] == "infra"

    def test_a_sound_template_excuses_nothing(self) -> None:
        """A machine that vanished from a sound template is lost."""
        assert self._examined(LOST, flaws=[])["verdict"] == "lost"


def test_a_host_error_is_not_a_case_failure(tmp_path: Path) -> None:
    """An error of the host is not reported as the fault of one case."""
    with pytest.raises(HostError, match="QEMU is not installed"):
        examine(ScriptedPool(HostError("QEMU is not installed")), SLUG, REDIRECT)
