# SPDX-License-Identifier: GPL-2.0-only
"""Kernel images: recognised and extracted."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from common.errors import KernelError
from kernels import vmlinux
from kernels.vmlinux import ImageKind
from tests.kernels import fakes

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(level=22, write_checksum=True).compress,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file to create."""
    return tmp_path / "image"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_extract(path: Path, tmp_path: Path, compression: str) -> None:
    """The kernel inside a bzImage is extracted unchanged, with every compression."""
    inner = fakes.vmlinux()
    path.write_bytes(fakes.bzimage(COMPRESSIONS[compression](inner)))
    vmlinux.extract(path, tmp_path / "vmlinux")
    # Without compression the end of the kernel is unknown; the appended size follows it.
    assert (tmp_path / "vmlinux").read_bytes()[: len(inner)] == inner


def test_unknown_compression(path: Path, tmp_path: Path) -> None:
    """An unknown compression is reported as such: the bzImage itself may still boot."""
    path.write_bytes(fakes.bzimage(b"\x02\x21\x4c\x18" + bytes(600)))
    with pytest.raises(vmlinux.UnsupportedError, match="02 21 4c 18"):
        vmlinux.extract(path, tmp_path / "vmlinux")


def test_truncated(path: Path, tmp_path: Path) -> None:
    """A bzImage cut short is refused with what is missing."""
    whole = fakes.bzimage(gzip.compress(fakes.vmlinux()))
    path.write_bytes(whole[:-50])
    with pytest.raises(KernelError, match=f"truncated: {len(whole) - 50} bytes where its header promises {len(whole)}"):
        vmlinux.extract(path, tmp_path / "vmlinux")


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_damaged(path: Path, tmp_path: Path, compression: str) -> None:
    """A bzImage with flipped bits is refused."""
    payload = bytearray(COMPRESSIONS[compression](fakes.vmlinux()))
    payload[len(payload) // 2] ^= 0xFF
    path.write_bytes(fakes.bzimage(bytes(payload)))
    with pytest.raises(KernelError, match="damaged"):
        vmlinux.extract(path, tmp_path / "vmlinux")


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "bzip2"])
def test_payload_cut_short(path: Path, tmp_path: Path, compression: str) -> None:
    """A payload that ends too early is refused, though its header is right."""
    path.write_bytes(fakes.bzimage(COMPRESSIONS[compression](fakes.vmlinux())[:-30]))
    with pytest.raises(KernelError, match="damaged"):
        vmlinux.extract(path, tmp_path / "vmlinux")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (fakes.bzimage(b"payload" * 99), ImageKind.BZIMAGE),
        (fakes.vmlinux(), ImageKind.VMLINUX),
        (fakes.vmlinux(banner="a program"), ImageKind.OTHER),
        (fakes.module("tls") + bytes(4096), ImageKind.OTHER),
        (b"#!/bin/sh\n" * 999, ImageKind.OTHER),
        (b"", ImageKind.OTHER),
    ],
    ids=["bzimage", "vmlinux", "program", "module", "script", "empty"],
)
def test_kind(path: Path, content: bytes, kind: ImageKind) -> None:
    """A kernel is distinguished from a program, a module, a script and an empty file."""
    path.write_bytes(content)
    assert vmlinux.kind(path) == kind


def test_facts(path: Path) -> None:
    """Banner, build id, configuration and PVH note of a vmlinux are read."""
    path.write_bytes(fakes.vmlinux(config=fakes.CONFIG))
    assert vmlinux.banner(path) == fakes.BANNER
    assert vmlinux.build_id(path) == bytes(range(20)).hex()
    assert vmlinux.embedded_config(path) == fakes.CONFIG
    assert vmlinux.has_pvh(path)
    path.write_bytes(fakes.vmlinux(notes=(fakes.BUILD_ID, (b"Xen", 6, b"linux"), (b"GNU", 18, bytes(8)))))
    assert not vmlinux.has_pvh(path)
    assert vmlinux.embedded_config(path) == ""


def test_banner_of_a_bzimage(path: Path) -> None:
    """The banner of a bzImage is read without extracting the kernel."""
    path.write_bytes(fakes.bzimage(bytes(600)))
    assert vmlinux.banner(path) == fakes.BANNER


def test_the_banner_with_the_build_number_wins(path: Path) -> None:
    """From 6.1 on a kernel holds its banner twice, the first time without the build number."""
    path.write_bytes(fakes.vmlinux(banner=fakes.BANNER.replace("#1", "#") + "\n\0" + fakes.BANNER))
    assert vmlinux.banner(path) == fakes.BANNER
