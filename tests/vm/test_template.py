# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import KernelError
from tests.vm.nowhere import kernel
from vm import template
from vm.compose import Composition
from vm.death import DeadMachineError
from vm.launch import Plan, flaw
from vm.machine import CallStatus, MachineInfo, MachineKind, MachineOptions
from vm.template import DamagedTemplateError, Template

INFO = MachineInfo(MachineKind.CLONE, "tcg", "because", factor=4.2, boot_seconds=3.1, versions={"qemu": "7.2"})
COMPOSITION = Composition("/usr/bin/qemu", ("-machine", "q35"), "/k/vmlinux", "quiet", 512)


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    with (tmp_path / "ram").open("wb") as ram:
        ram.truncate(8 << 20)
        ram.seek(1 << 20)
        ram.write(b"kernel" * 1000)
    (tmp_path / "state").write_bytes(b"devices" * 100)
    template.seal(tmp_path, COMPOSITION, INFO)
    return tmp_path


def test_a_template_is_read_as_it_was_sealed(folder: Path) -> None:
    """The manifest gives back machine and measurements, and sound files pass."""
    found = Template.read(folder)
    found.verify()
    assert found.composition == COMPOSITION
    assert found.info == INFO


@pytest.mark.parametrize("name", ["ram", "state"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_found(folder: Path, name: str, damage: str) -> None:
    """One changed byte, a lost tail, a lost file: none is mistaken for the template."""
    path = folder / name
    match damage:
        case "flip":
            offset = (1 << 20) + 5 if name == "ram" else 5
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(b"\0")
        case "truncate":
            os.truncate(path, path.stat().st_size // 2)
        case "remove":
            path.unlink()
    with pytest.raises(DamagedTemplateError, match=name):
        Template.read(folder).verify()


def test_any_bit_of_the_manifest_counts(folder: Path) -> None:
    """Any changed bit of the manifest is damage, even if the manifest still makes sense."""
    path = folder / "manifest.json"
    sound = path.read_bytes()
    for number in range(len(sound)):
        spoiled = bytearray(sound)
        spoiled[number] ^= 1 << number % 8
        path.write_bytes(spoiled)
        with pytest.raises(DamagedTemplateError, match="manifest"):
            Template.read(folder)
    path.write_bytes(sound)
    assert json.loads(sound)["template"]["info"]["factor"] == INFO.factor
    Template.read(folder).verify()


def test_a_template_may_go_at_any_moment(folder: Path) -> None:
    """Another process discards it after it was verified: that is damage, too, and no traceback."""
    found = Template.read(folder)
    found.verify()
    found.state.unlink()
    with pytest.raises(DamagedTemplateError, match="state cannot be read"):
        found.opened_state()


def change_unseen(path: Path) -> None:
    """Change a file without changing its size or date."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"K")
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def test_to_look_closely_is_to_read_all(folder: Path) -> None:
    """After a clone has died, the memory is checked even if its date is unchanged."""
    found = Template.read(folder)
    change_unseen(found.ram)
    found.verify()
    with pytest.raises(DamagedTemplateError, match="ram has changed"):
        found.verify(closely=True)


def test_a_touched_file_is_read_before_it_is_believed(folder: Path) -> None:
    """A changed date alone is not damage."""
    os.utime(folder / "ram", (1, 1))
    Template.read(folder).verify()


def test_after_a_reboot_memory_is_read_before_it_is_believed(folder: Path) -> None:
    """A host that went down may have lost writes without the date showing it."""
    found = Template.read(folder)
    change_unseen(found.ram)
    found.verify()
    with pytest.raises(DamagedTemplateError, match="ram has changed"):
        replace(found, boot_id="another boot").verify()


def test_a_machine_knows_whether_its_template_is_to_blame(folder: Path) -> None:
    """A template that was damaged or replaced under a clone is named; one that is sound, or none, is not."""
    info = replace(INFO, template=str(folder), generation=tuple(template.identity(folder)))
    assert flaw(info) == ""
    assert flaw(INFO) == ""

    with (folder / "state").open("r+b") as file:
        file.write(b"\0")
    assert "its state has changed" in flaw(info)

    (folder / "manifest.json").rename(folder / "old")
    template.seal(folder, COMPOSITION, INFO)
    assert "replaced" in flaw(info)


@pytest.mark.parametrize("text", ["", "{}", '{"info": {"kind": "clone"}}', "[]"])
def test_a_broken_manifest_is_damage(folder: Path, text: str) -> None:
    """Any damage of the manifest gives the same kind of error."""
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DamagedTemplateError, match="manifest"):
        Template.read(folder)


def test_copies_keep_content_and_holes(folder: Path) -> None:
    """A copy has the same checksum and takes no more room."""
    template.copy_sparse(folder / "ram", folder / "copy")
    assert template.checksum_of(folder / "copy") == template.checksum_of(folder / "ram")
    assert (folder / "copy").stat().st_blocks <= (folder / "ram").stat().st_blocks


def test_checksums_know_where_data_is(tmp_path: Path) -> None:
    """The same bytes at another offset give another checksum."""
    for name, offset in (("a", 0), ("b", 1 << 20)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2 << 20)
            file.seek(offset)
            file.write(b"x" * 4096)
    assert template.checksum_of(tmp_path / "a") != template.checksum_of(tmp_path / "b")


def test_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the templates warm with different guest code the one prepared last is used; few are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = [template.folder_of("key", {"module": f"version = {number}"}) for number in range(4)]
    for age, folder in enumerate(folders):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    forgotten = template.folder_of("other", {})
    forgotten.mkdir()
    os.utime(forgotten, (0, 0))
    assert len(set(folders)) == 4
    assert template.newest("key") == folders[0]
    assert template.newest("none") is None
    template.retire("key")
    assert not forgotten.exists()
    assert [folder.exists() for folder in folders] == [True, True, False, False]


def test_the_key_follows_every_ingredient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kernel, option, QEMU or agent gives another key; another spec of the same kernel does not."""
    qemu = tmp_path / "qemu-system-x86_64"
    qemu.write_bytes(b"#!/bin/true\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    options = MachineOptions(accelerator="tcg")

    def key(plan_kernel: object = None, **changes: object) -> str:
        return Plan(plan_kernel or kernel(), replace(options, **changes), print).key  # type: ignore[arg-type]

    keys = [key(), key(cpus=2), key(memory=1024), key(append="nokaslr"), key(preload=("tls",))]
    keys.append(key(replace(kernel(), digest="1" * 64)))
    monkeypatch.setattr("vm.rootfs.key", lambda: "another agent")
    keys.append(key())
    qemu.write_bytes(b"#!/bin/false\n")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key(replace(kernel(), spec="./vmlinux", slug="vmlinux")) == keys[-1]


@pytest.mark.parametrize("status", [CallStatus.OVERRAN, CallStatus.PANICKED, CallStatus.LOST])
def test_silence_at_boot_is_no_reason_to_show_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: CallStatus
) -> None:
    """A kernel that does not start the agent cannot be judged; it gets no machine that exposes more of the host."""

    def fail(*arguments: object) -> None:
        raise KernelError("no agent") from DeadMachineError(status, "", "")

    def show(*arguments: object) -> None:
        pytest.fail("a stock guest was opened")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vm.boot.boot", fail)
    monkeypatch.setattr("vm.stock.open_stock", show)
    monkeypatch.setattr(Plan, "composition", lambda plan: COMPOSITION)
    said: list[str] = []
    plan = Plan(kernel(), MachineOptions(accelerator="tcg"), said.append)
    with pytest.raises(KernelError, match="no agent"):
        plan.prepared({}, None)
    with pytest.raises(KernelError, match="no agent"):
        plan.open_clone({}, None)
    assert not any("stock" in each for each in said)
