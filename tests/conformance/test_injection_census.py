# SPDX-License-Identifier: GPL-2.0-only
"""Every kind of leftover of an injected fault is found."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from common import cache
from tests.conformance.injection import adopting, apart, left_over, possible_leftovers
from tests.waiting import wait_until

Plant = Callable[[], AbstractContextManager[object]]


@contextmanager
def _process() -> Iterator[None]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield
        process.kill()


@contextmanager
def _orphan() -> Iterator[None]:
    """A process whose parent has gone without it."""
    done = subprocess.run(
        ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True
    )
    pid = int(done.stdout)
    yield
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@contextmanager
def _bound() -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{tempfile.gettempdir()}/socket")
    yield


@contextmanager
def _file() -> Iterator[None]:
    cache.root().joinpath("left").touch()
    yield


@contextmanager
def _pidfd() -> Iterator[None]:
    descriptor = os.pidfd_open(os.getpid())
    yield
    os.close(descriptor)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (_process, "processes"),
        (_orphan, "processes"),
        (socket.socket, "descriptors"),
        (_pidfd, "descriptors"),
        (_bound, "files"),
        (tempfile.TemporaryDirectory, "files"),
        (_file, "files"),
    ],
)
def test_a_leftover_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, kind: str) -> None:
    """A process, an orphan, a socket, a descriptor, a file of any type: each is found, and alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache.root().mkdir(parents=True)
    with apart(tmp_path / "temporary"), adopting():
        before = possible_leftovers()
        assert not left_over(before)
        with plant():
            wait_until(lambda: bool(left_over(before)), "it is there")
            assert [each.partition(":")[0] for each in left_over(before)] == [kind]
