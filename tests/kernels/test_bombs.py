# SPDX-License-Identifier: GPL-2.0-only
"""Wrong files: decompression bombs, kernels of other machines, packages."""

from __future__ import annotations

import gzip
import lzma
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings, strategies

from common.errors import ConformError, ExitCode, KernelError
from kernels import config, modules, unpack, vmlinux
from kernels.resolve import resolve
from tests.kernels import fakes

LIMIT = 8 << 20
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(level=19).compress,
}


def peak(attempt: Callable[[], object]) -> int:
    """Return the peak memory of an attempt that was refused because the file is too large."""
    tracemalloc.start()
    try:
        with pytest.raises((KernelError, unpack.TooLargeError), match="larger than"):
            attempt()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_bomb_is_not_unpacked(compression: str) -> None:
    """Decompression of a bomb stops at the limit, and never holds it as a whole."""
    bomb = COMPRESSIONS[compression](bytes(16 * LIMIT))
    assert peak(lambda: unpack.whole(bomb, LIMIT)) < 8 * LIMIT


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_module_bomb(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that unpacks to more than a module is an error that names it."""
    monkeypatch.setattr(modules, "_LARGEST", LIMIT)
    bomb = COMPRESSIONS[compression](bytes(16 * LIMIT))
    assert peak(lambda: modules.plain(bomb, f"tls.ko.{compression}")) < 8 * LIMIT
    with pytest.raises(KernelError, match=r"tls.ko.* cannot be decompressed"):
        modules.plain(COMPRESSIONS[compression](fakes.module("tls"))[:-12], f"tls.ko.{compression}")


def test_image_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bzImage that unpacks to more than a kernel leaves nothing of it on the disk."""
    monkeypatch.setattr(vmlinux, "_IMAGE_LIMIT", LIMIT)
    (tmp_path / "image").write_bytes(fakes.bzimage(gzip.compress(bytes(16 * LIMIT))))
    assert peak(lambda: vmlinux.extract(tmp_path / "image", tmp_path / "vmlinux")) < 8 * LIMIT
    assert not (tmp_path / "vmlinux").exists()


def test_configuration_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a .config.gz, a .config, and the configuration inside a kernel."""
    monkeypatch.setattr(vmlinux, "CONFIG_LIMIT", LIMIT)
    monkeypatch.setattr(config, "CONFIG_LIMIT", LIMIT)
    (tmp_path / "config.gz").write_bytes(gzip.compress(bytes(16 * LIMIT)))
    assert peak(lambda: config.read(tmp_path / "config.gz")) < 8 * LIMIT
    with (tmp_path / ".config").open("wb") as file:
        file.truncate(16 * LIMIT)
    assert peak(lambda: config.read(tmp_path / ".config")) < 8 * LIMIT
    image = fakes.vmlinux(config="CONFIG_NET=y\n")
    before, _, rest = image.partition(b"IKCFG_ST")
    after = rest.partition(b"IKCFG_ED")[2]
    (tmp_path / "vmlinux").write_bytes(before + b"IKCFG_ST" + gzip.compress(bytes(16 * LIMIT)) + b"IKCFG_ED" + after)
    assert peak(lambda: vmlinux.embedded_config(tmp_path / "vmlinux")) < 8 * LIMIT
    (tmp_path / "vmlinux").write_bytes(before + b"IKCFG_ST\x1f\x8b rubbish IKCFG_ED" + after)
    with pytest.raises(KernelError, match="is damaged"):
        vmlinux.embedded_config(tmp_path / "vmlinux")


def elf(machine: int, kind: int = 2, bits: int = 2) -> bytes:
    """Return the beginning of an ELF file."""
    return b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9) + struct.pack("<HH", kind, machine) + bytes(4096)


def for_32_bits() -> bytes:
    """Return a bzImage for 32-bit x86."""
    image = bytearray(fakes.bzimage(gzip.compress(fakes.vmlinux())))
    image[0x236:0x238] = bytes(2)
    return bytes(image)


@pytest.mark.parametrize(
    ("content", "description", "hint"),
    [
        (for_32_bits(), "a bzImage for 32-bit x86", "give a bzImage"),
        (elf(3, bits=1), "a 32-bit ELF file", "give a bzImage"),
        (elf(183), "an ELF file for arm64", "give a bzImage"),
        (elf(4242), "an ELF file for machine 4242", "give a bzImage"),
        (elf(0x3E, kind=1), "an object file or a module", "give a bzImage"),
        (elf(0x3E), "a program, or a kernel without its banner", "give a bzImage"),
        (b"!<arch>\ndebian-binary   ", "a Debian package", "dpkg-deb -x FILE DIR"),
        (b"\xed\xab\xee\xdb\x03", "an RPM package", "rpm2cpio"),
        (gzip.compress(fakes.vmlinux()), "compressed with gzip", "gunzip"),
        (lzma.compress(fakes.vmlinux()), "compressed with xz", "unxz"),
    ],
)
def test_what_a_file_is_that_is_no_kernel(tmp_path: Path, content: bytes, description: str, hint: str) -> None:
    """The error names what the file is, with a hint what to do."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(KernelError, match=f"file is not an x86-64 kernel: it is {description}$") as caught:
        resolve(str(tmp_path / "file"))
    assert hint in caught.value.hint
    assert caught.value.exit_code is ExitCode.CANNOT_JUDGE


def test_a_tar_is_a_tar(tmp_path: Path) -> None:
    """An archive is named, too."""
    (tmp_path / "vmlinux").write_bytes(fakes.vmlinux())
    with tarfile.open(tmp_path / "file", "w") as archive:
        archive.add(tmp_path / "vmlinux", "vmlinux")
    with pytest.raises(KernelError, match="it is a tar archive"):
        resolve(str(tmp_path / "file"))


@settings(max_examples=100, deadline=None)
@given(
    strategies.sampled_from(["vmlinux", "bzimage"]),
    strategies.lists(strategies.tuples(strategies.integers(0, 0x250), strategies.binary(max_size=8)), max_size=6),
)
@example("vmlinux", [(0x20, b"\xff" * 8)])
@example("vmlinux", [(0x36, b"\0\0\xff\xff")])
@example("vmlinux", [(0x20, b"\xf0\x02")])
@example("bzimage", [(0x248, b"\xff" * 8)])
@example("bzimage", [(0x20E, b"\xff\xff")])
def test_odd_headers_are_a_sentence(tmp_path_factory: pytest.TempPathFactory, kind: str,
                                    changes: list[tuple[int, bytes]]) -> None:  # fmt: skip
    """Odd headers of a kernel never cause a traceback: the kernel is accepted, or refused with a sentence."""
    whole = fakes.vmlinux(config=fakes.CONFIG)
    image = bytearray(whole if kind == "vmlinux" else fakes.bzimage(gzip.compress(whole)))
    for position, change in changes:
        image[position : position + len(change)] = change
    path = tmp_path_factory.getbasetemp() / "odd"
    path.write_bytes(bytes(image))
    try:
        resolve(str(path))
    except ConformError as error:
        assert error.exit_code is ExitCode.CANNOT_JUDGE  # noqa: PT017
