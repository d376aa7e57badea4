# SPDX-License-Identifier: GPL-2.0-only
"""`conform run` on real kernels: healthy ones pass, and every planted fault is caught."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common import cache
from conformance.groups.redirect.cases import redirect_cases
from conformance.model import Verdict
from conformance.report.events import Run, read
from tests.conformance.conform import (
    command,
    conform,
    copy_of_checkout,
    descendants,
    environment,
    is_qemu,
    verdict_line,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.vm

KERNEL = "debian:6.12"
CASE = "sockmap-ingress-to-egress-tcp4-unix_stream"


def _summary(results: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((results / "summary.json").read_text())
    return summary


def _explained(run: Run) -> str:
    return " ".join(difference for case in run.unexpected() for difference in case.differences)


def test_three_kernels_keep_their_promises(tmp_path: Path) -> None:
    """From the oldest to the newest, every redirect case is observed and nothing is unexpected."""
    specs = ("debian:5.10", "debian:6.12", "debian:7.3")

    done = conform("run", *(f"--kernel={spec}" for spec in specs), "--results", "out", "-k", "test_redirect",
                   "-n", "2", cwd=tmp_path)  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    summary = _summary(tmp_path / "out")
    judged = [
        (each["spec"], each["counts"]["pass"] + each["counts"]["xfail"], each["unexpected"])
        for each in summary["kernels"]
    ]
    assert judged == [(spec, len(redirect_cases()), []) for spec in specs]
    run = read(tmp_path / "out")
    defective = [case for slug in run.slugs for case in run.cases[slug] if case.verdict is Verdict.XFAIL]
    assert {case.deviation for case in defective} == {"sticky-drop"}
    assert {case.params["mode"] for case in defective} <= {"send-to-local", "send-to-egress"}
    assert all(case.observation for slug in run.slugs for case in run.cases[slug])
    assert all(identity["config_sha256"] for identity in summary["provenance"]["kernels"].values())


def test_one_case(tmp_path: Path) -> None:
    """One case of one kernel is judged alone, and says so."""
    done = conform("run", "--kernel", KERNEL, "--", "-k", CASE, cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 case: 1 pass" in verdict_line(done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_cache_that_may_only_be_read(tmp_path: Path) -> None:
    """A cache that became read-only is a host error, reported before any case is tried."""
    judge = command("run", "--kernel", KERNEL, "-k", CASE)
    frozen = ["unshare", "--mount", "sh", "-c", 'mount --bind -o ro "$0" "$0" && exec "$@"', str(cache.root()), *judge]
    assert conform(*judge[3:], cwd=tmp_path).returncode == 0

    done = subprocess.run(frozen, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)

    assert done.returncode == 128, done.stdout + done.stderr
    assert "read-only" in done.stderr
    assert "hint: make" in done.stderr


def test_plain_pytest(tmp_path: Path) -> None:
    """Plain pytest keeps its options and its summary line, with the matrices below."""
    options = ["--kernel", KERNEL, "-k", CASE, "-v", "-p", "no:cacheprovider"]
    arguments = [*command()[:2], "pytest", "conformance", *options]

    done = subprocess.run(
        arguments, cwd=Path(__file__).parents[2], env=environment(), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"test_redirect[debian-6.12-{CASE}]" in done.stdout
    assert "1 passed" in done.stdout
    assert "Nothing unexpected" in done.stdout


class TestPlantedFaults:
    """Each fault planted in a copy of the checkout is found and named."""

    def _run(self, copy: Path, *, case: str = CASE) -> Run:
        done = conform("run", "--kernel", KERNEL, "--results", "out", "-k", case, cwd=copy, root=copy)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "./conform run --kernel debian:6.12" in done.stdout
        return read(copy / "out")

    def test_wrong_expectation(self, tmp_path: Path) -> None:
        """A row that expects the wrong outcome contradicts the kernel."""
        copy = copy_of_checkout(tmp_path)
        rules = copy / "conformance/groups/redirect/promises-redirect.toml"
        rows = rules.read_text().split("[[rule]]")
        rows = [row.replace('"delivered"', '"dropped"') if 'id = "skb-egress"\n' in row else row for row in rows]
        rules.write_text("[[rule]]".join(rows))

        (case,) = self._run(copy).unexpected()

        assert (case.expected, case.observed) == ("dropped", "delivered")

    def test_wrong_slot(self, tmp_path: Path) -> None:
        """A program that redirects to an empty slot is reported as dropping."""
        copy = copy_of_checkout(tmp_path)
        program = copy / "bpf/programs/sk_skb_redirect_map.bpf.c"
        source = program.read_text()
        assert "state->key" in source
        program.write_text(source.replace("state->key", "state->key + 1"))

        (case,) = self._run(copy).unexpected()

        assert case.verdict is Verdict.FAIL
        assert case.observed == "dropped"

    def test_duplicate(self, tmp_path: Path) -> None:
        """Bytes that arrive twice are reported, even if no byte is missing."""
        copy = copy_of_checkout(tmp_path)
        scenario = copy / "conformance/groups/redirect/guest/scenario.py"
        sending = "outcome(self._sender.send, message, socket.MSG_DONTWAIT)"
        source = scenario.read_text()
        assert sending in source
        scenario.write_text(source.replace(sending, f"({sending}, {sending})[0]"))

        run = self._run(copy)

        assert "twice" in _explained(run) or "again" in _explained(run)

    def test_killed_clone(self, tmp_path: Path) -> None:
        """A clone that the host kills costs no case: its current case is tried again in another clone."""
        arguments = command("run", "--kernel", KERNEL, "--results", "out", "-k", "sockmap-send-to-egress", "-n", "0")
        process = subprocess.Popen(arguments, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
        log = tmp_path / "out" / "events.jsonl"

        wait_until(lambda: log.exists() and log.read_text().count('"event":"case"') > 5, "some cases were judged")
        killed = list(filter(is_qemu, descendants(process.pid)))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        code = process.wait(60)

        run = read(tmp_path / "out")
        assert killed
        assert code == 0
        assert not run.unexpected()
        (case,) = (each for each in run.cases["debian-6.12"] if each.tries)
        assert [each["verdict"] for each in case.tries] == [Verdict.INFRA, case.verdict]
        assert not case.flaky
        assert len(run.cases["debian-6.12"]) == run.start.selected["debian-6.12"]


class TestInterruption:
    """However a run ends, it leaves no process and no temporary file."""

    @pytest.mark.parametrize(
        ("number", "code"),
        [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    )
    def test_signal(self, tmp_path: Path, number: signal.Signals, code: int) -> None:
        """A signal ends workers and machines with the command, and the event log is whole up to its last line."""
        arguments = command("run", "--kernel", KERNEL, "--results", "out", "-n", "2")
        process = subprocess.Popen(
            arguments, cwd=tmp_path, env=environment(TMPDIR=os.fspath(tmp_path)),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        log = tmp_path / "out" / "events.jsonl"
        wait_until(lambda: log.exists() and log.read_text().count('"event":"case"') > 5, "some cases were judged")
        family = descendants(process.pid)
        assert any(map(is_qemu, family))

        process.send_signal(number)
        _, errors = process.communicate(timeout=60)

        assert process.returncode == code
        assert "Traceback" not in errors
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), "every process is gone")
        assert not [path for path in tmp_path.iterdir() if path.name != "out"]
        assert sum(map(len, read(tmp_path / "out").cases.values())) > 5
