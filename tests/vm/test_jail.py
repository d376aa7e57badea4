# SPDX-License-Identifier: GPL-2.0-only
"""QEMU has few rights, and gets its files as descriptors."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from common.errors import HostError
from kernels.resolve import resolve
from vm import compose, jail
from vm.launch import QEMU, open_machine
from vm.machine import MachineKind, MachineOptions
from vm.qemu import Qemu
from vm.session import Session

as_root = pytest.mark.skipif(not jail.user(), reason="only root may become somebody else")


@pytest.mark.vm
@pytest.mark.parametrize("kind", [MachineKind.CLONE, MachineKind.COLD])
@as_root
def test_qemu_is_nobody_and_may_do_nothing(kind: MachineKind) -> None:
    """Started by root, QEMU has no user of the machine's, no group, no capability, and a filter of system calls."""
    machine = open_machine(resolve("debian:6.12"), MachineOptions(kind=kind, accelerator="tcg"), bundle={}, warmup=None)
    with contextlib.closing(machine):
        assert isinstance(machine, Session)
        body = machine._body
        assert isinstance(body, Qemu)
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{body.process.pid}/status").read_text().splitlines()
        )
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(jail.USER)}
        assert set(status["Groups"].split()) <= ({str(jail.KVM.stat().st_gid)} if jail.KVM.exists() else set())
        assert "0" not in status["Groups"].split()
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        opened = [os.readlink(path) for path in Path(f"/proc/{body.process.pid}/fd").iterdir()]
        assert not [path for path in opened if path.startswith("/") and not path.startswith(("/memfd:", "/dev/null"))
                    and not path.endswith(("/ram", "/vmlinux"))]  # fmt: skip


def test_memory_belongs_to_the_user_of_qemu(tmp_path: Path) -> None:
    """No other user may read or write a guest's memory, and a link in its place is not followed."""
    with jail.memory(tmp_path / "ram", create=True) as descriptor:
        status = os.fstat(descriptor)
        assert status.st_mode & 0o077 == 0
        assert status.st_uid == (jail.user() or os.geteuid())
        assert jail.runner(["/bin/sh"], descriptor) == jail.user()
    with pytest.raises(FileNotFoundError), jail.memory(tmp_path / "none"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "ram")
    with pytest.raises(HostError, match="too many levels of symbolic links"), jail.memory(tmp_path / "link"):
        pass


@as_root
def test_the_owner_of_a_cache_stays_its_owner(tmp_path: Path) -> None:
    """If root uses the cache of a user, QEMU runs as that user."""
    (tmp_path / "ram").touch()
    os.chown(tmp_path / "ram", 1000, 1000)
    with jail.memory(tmp_path / "ram") as descriptor:
        assert jail.runner(["/bin/sh"], descriptor) == 1000
    assert (tmp_path / "ram").stat().st_uid == 1000


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something like /dev/kvm."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr("vm.jail.KVM", device)
    return device


@as_root
@pytest.mark.parametrize(
    ("mode", "group", "can", "groups"),
    [(0o660, 109, True, ["--groups", "109"]), (0o666, 0, True, ["--clear-groups"]), (0o660, 0, False, None),
     (0o600, 109, False, None)],
)  # fmt: skip
def test_kvm_is_used_by_group_or_by_root(kvm: Path, mode: int, group: int, can: bool, groups: list[str] | None) -> None:
    """QEMU is in the group that KVM is for, never in root's; where KVM is for root alone, QEMU stays root."""
    kvm.chmod(mode)
    os.chown(kvm, 0, group)
    assert jail.runner(["/bin/sh", "-accel", "kvm"]) == (jail.user() if can else 0)
    assert jail.runner(["/bin/sh", "-accel", "tcg"]) == jail.user()
    if groups is not None:
        options = jail.options(jail.user())
        assert [each for each in options if each in (*groups, "--clear-groups", "--groups", "109")] == groups


@as_root
def test_a_file_that_only_root_may_read_is_copied(tmp_path: Path) -> None:
    """A kernel that only its owner may read boots, too."""
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF")
    for mode in (0o644, 0o600):
        (tmp_path / "vmlinux").chmod(mode)
        with jail.readable(tmp_path / "vmlinux") as descriptor:
            assert os.pread(descriptor, 4, 0) == b"\x7fELF"
            assert os.fstat(descriptor).st_mode & 0o004


@as_root
def test_a_qemu_that_only_root_may_start_runs_as_root(tmp_path: Path) -> None:
    """A QEMU that only root can execute runs as root."""
    (tmp_path / "qemu").touch(0o755)
    tmp_path.chmod(0o700)
    assert jail.runner([str(tmp_path / "qemu")]) == 0


def test_a_qemu_without_seccomp_runs_without(tmp_path: Path) -> None:
    """A QEMU built without seccomp gets no such option."""
    for name, code in (("with", 0), ("without", 1)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    assert jail.sandbox(str(tmp_path / "with")) == ("-sandbox", jail.SANDBOX)
    assert jail.sandbox(str(tmp_path / "without")) == ()


@pytest.mark.vm
@pytest.mark.parametrize(
    ("more", "memory", "words"),
    [([], 64, ""), (["-smp", "999999"], 64, "Invalid SMP CPUs 999999"), ([], 99_999_999, "annot")],
)
def test_what_qemu_cannot_do_is_the_hosts_fault(tmp_path: Path, more: list[str], memory: int, words: str) -> None:
    """A machine too large for this host gives an error that says so; a comma in the path of the cache does no harm."""
    qemu = shutil.which(QEMU)
    assert qemu is not None
    folder = tmp_path / "a,b"
    folder.mkdir()
    # fmt: off
    arguments = (
        "-machine", "q35,memory-backend=ram",
        "-accel", "tcg",
        "-device", "virtio-serial-pci",
        "-display", "none",
        "-nodefaults", "-no-user-config", "-S",
        *more,
    )
    # fmt: on
    composition = compose.Composition(qemu, arguments, "", "", memory)
    with jail.memory(folder / "ram", create=True) as ram:
        command = composition.machine(ram, shared=True)
        body = Qemu(command, passed=[ram], runner=jail.runner(command, ram))
    with contextlib.closing(body):
        if words:
            body.process.wait(20)
            assert body.host_fault().startswith("QEMU does not start (")
            assert words in body.host_fault()
        else:
            body._monitor.execute("query-status")
            assert body.host_fault() == ""
            assert (folder / "ram").stat().st_size == 64 << 20
