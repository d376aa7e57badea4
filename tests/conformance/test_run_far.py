# SPDX-License-Identifier: GPL-2.0-only
"""Workers on another machine, reached over ssh; here it is this machine with another cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import cache
from conformance.model import Verdict
from conformance.report.events import NAME, read
from tests.conformance.conform import ROOT, command, environment
from tests.conformance.sshd import SSHD, far_machine
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.vm, pytest.mark.skipif(SSHD is None, reason="no sshd: apt install openssh-server")]

SLUG = "debian-6.12"


def far_cache(folder: Path) -> Path:
    """Make a cache that has the kernels, and no template yet."""
    root = folder / "cache" / cache.root().name
    root.mkdir(parents=True)
    for name in ("bpf", "kernels", "kvm", "resolved"):
        (root / name).symlink_to(cache.root() / name)
    return root.parent


def test_a_machine_is_lost(tmp_path: Path) -> None:
    """Remote workers make their own template; when one is lost, the other judges the remaining cases."""
    cases = "test_redirect and sockmap and ingress-to-egress"
    log = tmp_path / "out" / NAME

    with far_machine(tmp_path) as far:
        spec = f"2*ssh=far//ssh_config={far.configuration}//python={sys.executable}//chdir={tmp_path}/home"
        spec += f"//env:XDG_CACHE_HOME={far_cache(tmp_path)}"
        with subprocess.Popen(
            command("run", "--kernel", "debian:6.12", "-k", cases, "--results", "out", "--", f"--tx={spec}"),
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            try:
                wait_until(log.exists, "a log")
                # They need a boot first, on a machine that may be busy with other tests.
                wait_until(lambda: log.read_text().count('"event":"case"') >= 5, "five verdicts", 5 * PATIENCE)
                lost, *others = far.connections()
                far.server.kill()
                os.kill(lost, signal.SIGKILL)
                output, _ = process.communicate(timeout=5 * PATIENCE)
            finally:
                process.terminate()

    run = read(tmp_path / "out")
    passed = {case.id for case in run.cases[SLUG] if case.verdict is Verdict.PASS}
    assert "lost a machine; the others continue" in output
    assert others
    # The case of the lost worker is infra until it is judged again; nothing else is unexpected.
    assert len(passed) == run.start.selected[SLUG] > 50, output
    assert {case.verdict for case in run.unexpected()} <= {Verdict.INFRA}
    assert process.returncode in (0, 128), output
    assert (tmp_path / "cache" / cache.root().name / "templates").is_dir()
    assert (tmp_path / "home" / ROOT.name / "conformance").is_dir()
