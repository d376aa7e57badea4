# SPDX-License-Identifier: GPL-2.0-only
"""Options of a run, on real kernels."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

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


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that a run of one case takes on the host as busy as it is now."""
    begin = time.monotonic()
    assert conform("run", "--kernel", KERNEL, "-k", CASE, cwd=tmp_path_factory.mktemp("usual")).returncode == 0
    return time.monotonic() - begin


class TestDeadline:
    """A run ends by its total deadline."""

    def test_while_cases_are_judged(self, tmp_path: Path, usual: float) -> None:
        """Finished cases keep their verdicts, all others are infra with the reason, and the numbers add up."""
        deadline = 4 + 4 * usual
        done = conform("run", "--kernel", KERNEL, "-k", "test_redirect", "--repeat", "9", "-n", "2",
                       "--total-deadline", f"{deadline:.0f}", "--results", "out", cwd=tmp_path)  # fmt: skip

        assert done.returncode == 125, done.stdout + done.stderr
        run = read(tmp_path / "out")
        assert run.counts().keys() <= {Verdict.PASS, Verdict.INFRA}
        assert not run.unseen()
        assert {case.differences[0] for case in run.unexpected()} <= {
            "not run: the run's total deadline has passed",
            "the run's total deadline has passed",
            "no machine: the run's total deadline has passed",
        }
        assert run.finish is not None
        assert run.finish.seconds < deadline + usual

    def test_while_templates_are_made(self, tmp_path: Path) -> None:
        """Two kernels that boot at once are both ended, and nothing of them is left."""
        other = f"conform.test={time.time_ns()}"
        arguments = command("run", "--kernel", KERNEL, "--kernel", "debian:5.10", "--append", other,
                            "--total-deadline", "6s", "-k", CASE)  # fmt: skip
        process = subprocess.Popen(
            arguments, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        family: set[int] = set()

        def booting() -> bool:
            family.update(descendants(process.pid))
            return process.poll() is not None or any(map(is_qemu, family))

        wait_until(booting, "a kernel boots")
        _, errors = process.communicate(timeout=60)

        assert process.returncode == 125, errors
        assert "conform: the total deadline of 6s passed before any case was judged" in errors
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), "every process is gone")


def test_until_it_fails(tmp_path: Path, usual: float) -> None:
    """A case that does not fail is repeated for as long as the deadline allows, and passes."""
    done = conform("run", "--kernel", KERNEL, "-k", CASE, "--until-fail", "--total-deadline", f"{4 + 6 * usual:.0f}",
                   "--results", os.fspath(tmp_path), cwd=tmp_path)  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    (case,) = read(tmp_path).cases["debian-6.12"]
    assert sum(each["times"] for each in case.tries) > 1


def test_isolation(tmp_path: Path) -> None:
    """With a clone for each case the verdicts are those of shared clones."""
    done = conform("run", "--kernel", KERNEL, "-k", "sockhash and tcp4-udp4", "--isolation", "case", "--repeat", "2",
                   "--results", os.fspath(tmp_path), cwd=tmp_path)  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    cases = read(tmp_path).cases["debian-6.12"]
    assert cases
    assert all([each["fresh"] for each in case.tries] == [True] for case in cases)


def test_evidence_of_a_bad_case(tmp_path: Path) -> None:
    """A case that contradicts a planted expectation leaves its folder, with what the kernel did and returned."""
    copy = copy_of_checkout(tmp_path)
    rules = copy / "conformance/groups/redirect/promises-redirect.toml"
    rows = rules.read_text().split("[[rule]]")
    rows = [row.replace('"delivered"', '"dropped"') if 'id = "skb-egress"\n' in row else row for row in rows]
    rules.write_text("[[rule]]".join(rows))

    done = conform("run", "--kernel", KERNEL, "--results", "out", "-k", CASE, "--trace", "--dump",
                   cwd=copy, root=copy)  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    (case,) = read(copy / "out").unexpected()
    assert [each["verdict"] for each in case.tries] == ["fail", "fail"]
    assert not case.flaky
    folder = copy / "out" / case.evidence
    assert {path.name for path in folder.iterdir()} == {
        "log.txt", "serial.txt", "observation.json", "command.txt", "trace.txt", "memory.elf",
    }  # fmt: skip
    assert "sk_psock_init" in (folder / "trace.txt").read_text()
    assert (folder / "memory.elf").read_bytes()[:4] == b"\x7fELF"
    assert (folder / "command.txt").read_text() == f"./conform run --kernel {KERNEL} --case redirect/{CASE}\n"


class TestResume:
    """An interrupted run keeps all its verdicts."""

    def _killed(self, folder: Path, *more: str) -> Run:
        """Kill a run that has judged some cases, and tear the last line of its log."""
        arguments = command(
            "run", "--kernel", KERNEL, "-k", "test_redirect and sockhash and tcp", "--results", "out", *more
        )
        process = subprocess.Popen(arguments, cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
        log = folder / "out" / "events.jsonl"
        wait_until(lambda: log.exists() and log.read_text().count('"event":"case"') > 5, "some cases were judged")
        process.kill()
        process.wait(60)
        with log.open("a") as file:
            file.write('{"event":"case","kernel":"debian-6.12","na')
        return read(folder / "out")

    @pytest.mark.parametrize("more", [(), ("-n", "2")])
    def test_after_sigkill(self, more: tuple[str, ...], tmp_path: Path) -> None:
        """The missing cases are judged with the same options, none is judged twice, and the report covers all."""
        before = self._killed(tmp_path, *more)
        total, judged = before.start.selected["debian-6.12"], len(before.cases["debian-6.12"])
        assert 5 < judged < total

        done = conform("run", "--resume", "out", cwd=tmp_path)

        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Nothing unexpected. {total} cases: " in verdict_line(done.stdout)
        run = read(tmp_path / "out")
        assert run.start == before.start
        assert run.cases["debian-6.12"][:judged] == before.cases["debian-6.12"]
        assert not run.unseen()
        assert run.counts()[Verdict.PASS] + run.counts()[Verdict.XFAIL] == total
        assert run.finish is not None
        lines = (tmp_path / "out" / "events.jsonl").read_text().splitlines()
        assert sum('"event":"case"' in line for line in lines) == total, "a case was judged twice"

        again = conform("run", "--resume", "out", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert len((tmp_path / "out" / "events.jsonl").read_text().splitlines()) == len(lines) + 1
