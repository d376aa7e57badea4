# SPDX-License-Identifier: GPL-2.0-only
"""Kernel images: what a file is, what it says of itself, and the vmlinux inside a bzImage.

The setup header is documented in Documentation/arch/x86/boot.rst, the PVH note in Xen's elfnote.h.
"""

from __future__ import annotations

import bz2
import lzma
import mmap
import re
import struct
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from common.errors import KernelError

_BANNER = re.compile(rb"Linux version (\d[^\0\n]*)")
_CHUNK = 1 << 20
_PT_NOTE = 4
_XEN_ELFNOTE_PHYS32_ENTRY = 18
_NT_GNU_BUILD_ID = 3


class ImageKind(StrEnum):
    """What a file is, as far as booting goes."""

    BZIMAGE = "bzImage"
    VMLINUX = "vmlinux"
    OTHER = "no kernel"


class UnsupportedError(Exception):
    """The payload is compressed in a way nothing here can undo; the bzImage itself still boots."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


def kind(path: Path) -> ImageKind:
    """Tell what the file is by its first bytes."""
    with path.open("rb") as file:
        head = file.read(0x210)
    if head[0x202:0x206] == b"HdrS" and head[0x1FE:0x200] == b"\x55\xaa":
        return ImageKind.BZIMAGE
    # ELF64, little endian, ET_EXEC or ET_DYN, EM_X86_64; a module or an object file is ET_REL.
    if head[:6] == b"\x7fELF\x02\x01" and head[16] in (2, 3) and head[18:20] == b"\x3e\x00":
        return ImageKind.VMLINUX if banner(path) else ImageKind.OTHER
    return ImageKind.OTHER


def banner(path: Path) -> str:
    """Return the version line as in `/proc/version`, or "" if the file has none.

    A bzImage's header has a shorter one than the kernel inside: no compiler, and no `Linux version`, which is added.
    """
    with _mapped(path) as data:
        if data[0x202:0x206] == b"HdrS":
            (pointer,) = struct.unpack_from("<H", data, 0x20E)
            if not pointer:
                return ""
            start = pointer + 0x200
            end = data.find(b"\0", start)
            return "Linux version " + data[start:end].decode("utf-8", "replace").strip()
        found = [match[0].decode("utf-8", "replace").strip() for match in _BANNER.finditer(data)]
        # From 6.1 on there is another one before it, the same but for the build number and the time.
        return next((text for text in found if re.search(r"#\d", text)), found[-1] if found else "")


def extract(bzimage: Path, vmlinux: Path) -> None:
    """Write the ELF kernel inside `bzimage` to `vmlinux`; UnsupportedError if its compression is not supported."""
    with _mapped(bzimage) as data:
        setup_sectors = data[0x1F1] or 4
        (protocol,) = struct.unpack_from("<H", data, 0x206)
        if protocol < 0x208:
            raise KernelError(f"{bzimage} is older than Linux 2.6.26", hint="give a kernel from 5.10 on")
        offset, length = struct.unpack_from("<II", data, 0x248)
        start = (setup_sectors + 1) * 512 + offset
        if start + length > len(data):
            raise KernelError(
                f"{bzimage} is truncated: {len(data)} bytes where its header promises {start + length}",
                hint="copy or download it again",
            )
        decompressor = _decompressor(data[start : start + 6])
        try:
            with vmlinux.open("wb") as output:
                for position in range(start, start + length, _CHUNK):
                    if getattr(decompressor, "eof", False):
                        break  # what follows is the size, appended by the build
                    output.write(decompressor.decompress(data[position : min(position + _CHUNK, start + length)]))
        except (lzma.LZMAError, zlib.error, ValueError, EOFError, _zstd_error()) as error:
            raise KernelError(f"{bzimage} is damaged: {error}", hint="build, copy or download it again") from error
    if not getattr(decompressor, "eof", True):
        raise KernelError(f"{bzimage} is damaged: its payload ends too early", hint="build, copy or download it again")
    with vmlinux.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            raise UnsupportedError(f"the payload of {bzimage} is not an ELF file")


def has_pvh(vmlinux: Path) -> bool:
    """Tell whether QEMU can start this ELF kernel directly (CONFIG_PVH)."""
    with _mapped(vmlinux) as data:
        return any(name == b"Xen" and type_ == _XEN_ELFNOTE_PHYS32_ENTRY for name, type_, _ in _notes(data))


def build_id(vmlinux: Path) -> str:
    """Return the GNU build id in hex, or "" if there is none."""
    with _mapped(vmlinux) as data:
        found = (value.hex() for name, type_, value in _notes(data) if name == b"GNU" and type_ == _NT_GNU_BUILD_ID)
        return next(found, "")


def embedded_config(vmlinux: Path) -> str:
    """Return the .config that CONFIG_IKCONFIG put into the kernel, or ""."""
    with _mapped(vmlinux) as data:
        start = data.find(b"IKCFG_ST\x1f\x8b")
        end = data.find(b"IKCFG_ED", start)
        if start < 0 or end < 0:
            return ""
        return zlib.decompressobj(wbits=31).decompress(data[start + 8 : end]).decode("utf-8", "replace")


def _notes(data: mmap.mmap) -> Iterator[tuple[bytes, int, bytes]]:
    (table,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    for header in range(table, table + size * count, size):
        (type_,) = struct.unpack_from("<I", data, header)
        offset, _, _, length = struct.unpack_from("<QQQQ", data, header + 8)
        end = min(offset + length, len(data))
        while type_ == _PT_NOTE and offset + 12 <= end:
            name_size, value_size, note = struct.unpack_from("<III", data, offset)
            value = offset + 12 + (name_size + 3 & ~3)
            yield data[offset + 12 : offset + 12 + name_size].rstrip(b"\0"), note, data[value : value + value_size]
            offset = value + (value_size + 3 & ~3)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        if path.stat().st_size < 0x250:
            raise KernelError(f"{path} is too short to be a kernel", hint="give a bzImage, vmlinuz or vmlinux")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


class _Plain:
    def decompress(self, data: bytes, /) -> bytes:
        return data


def _zstd() -> _Decompressor:
    import zstandard

    # The kernel is packed with --ultra -22: a window of 128 MiB.
    return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()


def _zstd_error() -> type[Exception]:
    import zstandard

    return zstandard.ZstdError


_FORMATS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\xfd7zXZ": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    b"\x7fELF": _Plain,
}


def _decompressor(magic: bytes) -> _Decompressor:
    for prefix, make in _FORMATS.items():
        if magic.startswith(prefix):
            return make()
    raise UnsupportedError(f"a kernel compressed with {magic.hex(' ')}, which is none of xz, zstd, gzip, bzip2, lzma")
