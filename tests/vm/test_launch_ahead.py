# SPDX-License-Identifier: GPL-2.0-only
"""A clone that is started ahead: used if its template is still the newest, and never left over."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing

import pytest

from common.errors import HostError
from conformance.run.machine_pool import MachinePool
from kernels.kernel import Kernel
from kernels.resolve import resolve
from tests.vm.test_launch import BUNDLE, OPTIONS, SPEC
from tests.waiting import wait_until
from vm import template
from vm.boot import Booted
from vm.launch import Plan, open_machine, prepare, start_ahead
from vm.machine import CallStatus, MachineKind, MachineOptions

pytestmark = pytest.mark.vm


@pytest.fixture(name="prepared", scope="module")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel, with a template in a cache of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        subject = resolve(SPEC)
        prepare(subject, OPTIONS, BUNDLE, lambda machine: None)
        yield subject


@pytest.fixture(name="started")
def _started(prepared: Kernel) -> Iterator[Booted]:
    clone = start_ahead(prepared, OPTIONS)
    assert clone is not None
    with closing(clone.session):
        yield clone


def _echoes(kernel: Kernel, started: Booted) -> int:
    """Return the process behind a machine that was opened with a clone started ahead, and that answers."""
    with closing(open_machine(kernel, OPTIONS, started=started)) as machine:
        machine.load(BUNDLE)
        assert machine.call("probe:echo", {"n": 1}, deadline=5.0).value == {"n": 1}
        assert machine.info.kind is MachineKind.CLONE
        return 0 if machine is started.session else 1


def test_a_clone_that_was_started_ahead_is_taken(prepared: Kernel, started: Booted) -> None:
    """The clone is used, and no other was started."""
    assert _echoes(prepared, started) == 0


def test_a_clone_that_has_died_is_replaced(prepared: Kernel, started: Booted) -> None:
    """A clone that was killed on the host is replaced."""
    started.qemu.process.kill()
    started.qemu.process.wait()
    assert _echoes(prepared, started) == 1


def test_a_clone_of_an_older_template_is_ended(prepared: Kernel, started: Booted) -> None:
    """A clone of a replaced template is ended."""
    folder = template.newest(Plan(prepared, OPTIONS, lambda sentence: None).key)
    assert folder is not None
    manifest = folder / "manifest.json"
    manifest.with_suffix(".new").write_bytes(manifest.read_bytes())
    manifest.with_suffix(".new").replace(manifest)

    assert _echoes(prepared, started) == 1
    wait_until(lambda: started.qemu.process.poll() is not None, "the clone ends")


def test_no_clone_is_started_where_none_can_be(prepared: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of machine without templates, or a template that is not there, is for open_machine() to deal with."""
    assert start_ahead(prepared, MachineOptions(kind=MachineKind.COLD)) is None
    monkeypatch.setattr(template, "newest", lambda key: None)
    assert start_ahead(prepared, OPTIONS) is None


def test_a_host_that_cannot_start_a_clone_ahead_is_asked_again_later(
    prepared: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the machine that is really needed ends a run, after a second try."""

    def fail(*arguments: object, **options: object) -> Booted:
        raise HostError("QEMU cannot be started")

    with monkeypatch.context() as patch:
        patch.setattr("vm.launch.start", fail)
        assert start_ahead(prepared, OPTIONS) is None


def test_a_pool_takes_its_clone_and_leaves_none_over(prepared: Kernel) -> None:
    """The first case is answered by the clone that was started ahead; one that nobody asks ends with the pool."""
    pool = MachinePool({"k": prepared}, OPTIONS, eager=True)
    with closing(pool):
        pool.prepare("k", lambda sentence: None)
        ahead = pool._ahead["k"]
        assert pool.machine("k") is ahead.session
        assert ahead.session.call("builtins:len", {}, deadline=5.0).status is CallStatus.ANSWERED
        pool.prepare("k", lambda sentence: None)
        left = pool._ahead["k"]
    for clone in (ahead, left):
        assert clone.qemu.process.poll() is not None
        assert not os.path.exists(f"/proc/{clone.qemu.process.pid}/exe")
