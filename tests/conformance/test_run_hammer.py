# SPDX-License-Identifier: GPL-2.0-only
"""The hammer on a real kernel with two processors, as a user swings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.report.events import read
from tests.conformance.conform import conform

pytestmark = pytest.mark.vm


def test_a_sound_kernel_stands_the_hammer_and_the_seed_is_told(tmp_path: Path) -> None:
    """A pair no kernel here is known to fall for, 5 s of the same draws; the log has the seed that leads to them."""
    chosen = "test_hammer and vsock_stream-unix_stream"
    arguments = (
        "--kernel",
        "debian:6.12",
        "--cpus",
        "2",
        "--stress",
        "5",
        "--seed",
        "1",
        "--results",
        "out",
        "-k",
        chosen,
    )
    done = conform("run", *arguments, cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    run = read(tmp_path / "out")
    cases = [case for slug in run.slugs for case in run.cases[slug]]
    assert [(case.name, case.params["seed"]) for case in cases] == [("vsock_stream-unix_stream", "1")]


def test_nobody_hammers_who_is_not_asked_to(tmp_path: Path) -> None:
    """Without --stress there are no such cases."""
    done = conform("run", "--kernel", "debian:6.12", "-k", "test_hammer", cwd=tmp_path)

    assert done.returncode == 128, done.stdout + done.stderr
