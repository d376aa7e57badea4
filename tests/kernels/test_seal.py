# SPDX-License-Identifier: GPL-2.0-only
"""A kernel in the cache is unchanged, or it is fetched again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels import modules, seal
from kernels.resolve import resolve
from tests.kernels import fakes


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """A sealed entry."""
    folder = tmp_path / "entry"
    (folder / "lib").mkdir(parents=True)
    (folder / "vmlinux").write_bytes(b"kernel")
    (folder / "lib" / "tls.ko").write_bytes(b"module")
    (folder / "link").symlink_to("vmlinux")
    seal.seal(folder)
    assert seal.flaw(folder) == ""
    return folder


def rot(entry: Path) -> None:
    """Change a bit without a change of the file's date."""
    status = (entry / "vmlinux").stat()
    (entry / "vmlinux").write_bytes(b"kernem")
    os.utime(entry / "vmlinux", ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (rot, "vmlinux has changed"),
        (lambda entry: (entry / "lib/tls.ko").write_bytes(b"mod"), "tls.ko has changed"),
        (lambda entry: (entry / "lib/tls.ko").unlink(), "does not hold"),
        (lambda entry: (entry / "lib/more.ko").touch(), "does not hold"),
        (lambda entry: (entry / "sums.json").write_text("{"), "cannot be read"),
    ],
    ids=["rot", "changed", "gone", "more", "sums"],
)
def test_harm_is_seen(entry: Path, harm: Callable[[Path], object], words: str) -> None:
    """Every change of an entry is found."""
    harm(entry)
    assert words in seal.flaw(entry)


def test_it_is_read_once_a_boot(entry: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While the host stays up the file's date is trusted; after a boot the content is checked again."""
    monkeypatch.setattr(seal, "_sum", lambda path: pytest.fail("read again"))
    assert seal.flaw(entry) == ""
    monkeypatch.undo()
    monkeypatch.setattr(seal, "BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another")
    seen = json.loads((entry / "seen.json").read_text())
    assert seal.flaw(entry) == ""
    assert json.loads((entry / "seen.json").read_text()) != seen


def test_an_entry_of_an_older_suite_is_sealed(entry: Path) -> None:
    """An entry that was never sealed is sealed as it is."""
    (entry / "sums.json").unlink()
    assert seal.flaw(entry) == ""
    rot(entry)
    assert "has changed" in seal.flaw(entry)


@fakes.NEEDS_APT
def test_a_debian_kernel_that_changed_is_fetched_again(archive: fakes.FakeArchive, tmp_path: Path) -> None:
    """No run judges a changed file under the name and digest of the archive's kernel."""
    archive.add(fakes.image_package(tmp_path))
    first = resolve("debian:6.12")
    assert first.modules is not None
    module = modules.folder(first.modules, first.release) / "kernel/net/tls/tls.ko"
    module.write_bytes(b"evil")
    messages: list[str] = []
    assert resolve("debian:6.12", progress=messages.append) == first
    assert module.read_bytes() == fakes.module("tls")
    assert any("is discarded" in each and "tls.ko has changed" in each for each in messages)
