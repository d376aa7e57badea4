# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import HostError
from kernels.kernel import Kernel
from tests.vm import nowhere
from vm import accel


def kernel() -> Kernel:
    """Return a kernel that has only an image."""
    return replace(nowhere.kernel(), image=Path("/bin/sh"))


@pytest.fixture(name="host")
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a /dev/kvm that opens, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(accel, "DEVICE", tmp_path / "kvm")
    monkeypatch.setattr("vm.jail.sandbox", lambda qemu: ())
    (tmp_path / "kvm").touch()
    return tmp_path


def qemu(folder: Path, script: str) -> Path:
    """Return a fake QEMU that runs a script and counts its calls."""
    path = folder / "qemu"
    path.write_text(f"#!/bin/sh\necho >> {shlex.quote(str(folder / 'runs'))}\n{script}\n")
    path.chmod(0o755)
    return path


def test_kvm_is_chosen_when_a_probe_reached_its_panic(host: Path) -> None:
    """KVM is chosen if the probe's kernel booted to its panic."""
    fake = qemu(host, "echo '[ 0.5] Kernel panic - not syncing: VFS: Unable to mount root fs'")
    assert accel.choose("auto", kernel(), fake).name == "kvm"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'qemu: KVM internal error' >&2; exit 1", "KVM internal error"),
        ("echo 'booting'", "stopped without a message"),
        ("case $* in *'-accel tcg'*) exit ;; esac; exec sleep 60", "did not finish within 0.2 s, and TCG was faster"),
        ("exec sleep 60", "did not finish within 0.2 s, and neither did TCG"),
    ],
)
def test_kvm_that_only_opens_is_refused(host: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    """KVM is refused if the probe's guest fails, stops early or hangs; the reason is given, also for `--accel kvm`."""
    monkeypatch.setattr(accel, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(accel, "RACE_SECONDS", 2.0)
    fake = qemu(host, script)
    choice = accel.choose("auto", kernel(), fake)
    assert choice.name == "tcg"
    assert words in choice.why
    with pytest.raises(HostError, match=words):
        accel.choose("kvm", kernel(), fake)


def test_a_slow_kvm_is_chosen_where_tcg_is_slower(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested virtualization needs longer than the probe's seconds; its deadlines follow what the probe took."""
    monkeypatch.setattr(accel, "PROBE_SECONDS", 0.2)
    panic = "Kernel panic - not syncing: VFS"
    fake = qemu(host, f"case $* in *'-accel tcg'*) exec sleep 60 ;; esac; sleep 1.2; echo '{panic}'")
    choice = accel.choose("kvm", kernel(), fake)
    assert choice.name == "kvm"
    assert choice.slowness >= 1.2
    assert accel.choose("auto", kernel(), fake).slowness == choice.slowness


def test_a_probe_is_made_once(host: Path) -> None:
    """The result holds until the next boot of the host, for all kernels."""
    fake = qemu(host, "exit 1")
    first = accel.choose("auto", kernel(), fake)
    assert accel.choose("auto", replace(kernel(), digest="1" * 64), fake) == first
    assert (host / "runs").read_text() == "\n"


def test_without_a_device_nothing_is_probed(host: Path) -> None:
    """Without /dev/kvm there is no probe."""
    (host / "kvm").unlink()
    assert "has no" in accel.choose("auto", kernel(), qemu(host, "")).why
    assert not (host / "runs").exists()


def test_tcg_on_demand_is_not_probed(host: Path) -> None:
    """`--accel tcg` is not probed."""
    assert accel.choose("tcg", kernel(), qemu(host, "")).name == "tcg"
    assert not (host / "runs").exists()
