# SPDX-License-Identifier: GPL-2.0-only
"""Kernel images: the kind of a file, its version and configuration, and the vmlinux inside a bzImage.

The setup header is documented in Documentation/arch/x86/boot.rst, the PVH note in Xen's elfnote.h.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from common.errors import KernelError
from kernels import unpack

_BANNER = re.compile(rb"Linux version (\d[^\0\n]{0,8000})")
_BANNER_LIMIT = 4096
_IMAGE_LIMIT = 1 << 30
"""Bytes; an allyesconfig kernel with KASAN is a third of that."""
CONFIG_LIMIT = 16 << 20
"""Bytes; a .config is 300 KB."""
_SEGMENTS = 64
"""Program headers read at most; a kernel has five."""
_FOR_64_BITS = 1
"""XLF_KERNEL_64 in `xloadflags`, since protocol 2.12, Linux 3.8."""
_PT_NOTE = 4
_XEN_ELFNOTE_PHYS32_ENTRY = 18
_NT_GNU_BUILD_ID = 3


class ImageKind(StrEnum):
    """The kind of a file, with regard to booting."""

    BZIMAGE = "bzImage"
    VMLINUX = "vmlinux"
    OTHER = "no kernel"


class UnsupportedError(Exception):
    """The compression of the payload is not supported; the bzImage itself still boots."""


def kind(path: Path) -> ImageKind:
    """Return the kind of a file by its first bytes."""
    with path.open("rb") as file:
        head = file.read(0x240).ljust(0x240, b"\0")
    if head[0x202:0x206] == b"HdrS" and head[0x1FE:0x200] == b"\x55\xaa":
        protocol, flags = struct.unpack_from("<H", head, 0x206)[0], struct.unpack_from("<H", head, 0x236)[0]
        return ImageKind.BZIMAGE if protocol < 0x20C or flags & _FOR_64_BITS else ImageKind.OTHER
    # ELF64, little endian, ET_EXEC or ET_DYN, EM_X86_64; a module or an object file is ET_REL.
    if head[:6] == b"\x7fELF\x02\x01" and head[16] in (2, 3) and head[18:20] == b"\x3e\x00":
        return ImageKind.VMLINUX if banner(path) else ImageKind.OTHER
    return ImageKind.OTHER


def description(path: Path) -> tuple[str, str]:
    """Describe a file that is not a kernel for this suite, and say what to do; both are empty if unknown."""
    with path.open("rb") as file:
        head = file.read(0x240)
    if head[0x202:0x206] == b"HdrS":
        return "a bzImage for 32-bit x86", ""
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        if head[4:5] == b"\x01":
            return "a 32-bit ELF file", ""
        machine, kind_ = int.from_bytes(head[18:20], "little"), int.from_bytes(head[16:18], "little")
        if machine != 0x3E:
            return f"an ELF file for {_MACHINES.get(machine, f'machine {machine}')}", ""
        return ("an object file or a module" if kind_ == 1 else "a program, or a kernel without its banner"), ""
    return next((described for magic, described in _OTHERS.items() if head[magic[0] :].startswith(magic[1])), ("", ""))


_MACHINES = {183: "arm64", 40: "arm", 243: "RISC-V", 21: "PowerPC", 22: "s390", 258: "LoongArch", 8: "MIPS"}
"""`EM_*` in elf.h."""

_OTHERS = {
    (0, b"!<arch>\ndebian-binary"): ("a Debian package", "unpack it with `dpkg-deb -x FILE DIR`, and give DIR"),
    (0, b"\xed\xab\xee\xdb"): ("an RPM package", "unpack it with `rpm2cpio FILE | cpio -idD DIR`, and give DIR"),
    (257, b"ustar"): ("a tar archive", "unpack it with `tar -xf FILE -C DIR`, and give DIR"),
    (0, b"\xfd7zXZ"): ("compressed with xz", "unpack it with `unxz FILE`"),
    (0, b"\x1f\x8b"): ("compressed with gzip", "unpack it with `gunzip FILE`"),
    (0, b"\x28\xb5\x2f\xfd"): ("compressed with zstd", "unpack it with `unzstd FILE`"),
    (0, b"BZh"): ("compressed with bzip2", "unpack it with `bunzip2 FILE`"),
    (56, b"ARMd"): ("an Image for arm64", ""),
    (0, b"MZ"): ("an EFI program", "give the bzImage itself"),
}
"""Offset and magic, what that is, and what to do."""


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
            end = data.find(b"\0", start, start + _BANNER_LIMIT)
            return "Linux version " + data[start:end].decode("utf-8", "replace").strip() if end > start else ""
        found = [match[0].decode("utf-8", "replace").strip() for match in _BANNER.finditer(data)]
        # From 6.1 on another line precedes it, without the build number and the time.
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
        payload = data[start : start + length]
    try:
        with vmlinux.open("wb") as output:
            for piece in unpack.unpacked(payload, _IMAGE_LIMIT):
                output.write(piece)  # what follows is the size, appended by the build
    except unpack.UnknownError as error:
        raise UnsupportedError(f"a kernel {error}") from error
    except unpack.TooLargeError as error:
        vmlinux.unlink(missing_ok=True)
        raise KernelError(f"the kernel in {bzimage} is {error}", hint="that is not Linux: build it again") from error
    except unpack.CorruptError as error:
        raise KernelError(f"{bzimage} is damaged: {error}", hint="build, copy or download it again") from error
    with vmlinux.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            raise UnsupportedError(f"the payload of {bzimage} is not an ELF file")


def has_pvh(vmlinux: Path) -> bool:
    """Return whether QEMU can start this ELF kernel directly (CONFIG_PVH)."""
    with _mapped(vmlinux) as data:
        return any(name == b"Xen" and type_ == _XEN_ELFNOTE_PHYS32_ENTRY for name, type_, _ in _notes(vmlinux, data))


def build_id(vmlinux: Path) -> str:
    """Return the GNU build id in hex, or "" if there is none."""
    with _mapped(vmlinux) as data:
        found = (
            value.hex() for name, type_, value in _notes(vmlinux, data) if name == b"GNU" and type_ == _NT_GNU_BUILD_ID
        )
        return next(found, "")


def embedded_config(vmlinux: Path) -> str:
    """Return the .config that CONFIG_IKCONFIG put into the kernel, or ""."""
    with _mapped(vmlinux) as data:
        start = data.find(b"IKCFG_ST\x1f\x8b")
        end = data.find(b"IKCFG_ED", start)
        if start < 0 or end < 0:
            return ""
        packed = data[start + 8 : end]
    try:
        return unpack.whole(packed, CONFIG_LIMIT).decode("utf-8", "replace")
    except unpack.TooLargeError as error:
        raise KernelError(f"the configuration in {vmlinux} is {error}", hint="build it again") from error
    except (unpack.CorruptError, unpack.UnknownError) as error:
        raise KernelError(f"the configuration in {vmlinux} is damaged: {error}", hint="build it again") from error


def _notes(path: Path, data: mmap.mmap) -> Iterator[tuple[bytes, int, bytes]]:
    try:
        yield from _each_note(data)
    except (struct.error, ValueError, OverflowError) as error:
        raise KernelError(
            f"{path} is not an x86-64 kernel: its ELF headers are damaged", hint="build, copy or download it again"
        ) from error


def _each_note(data: mmap.mmap) -> Iterator[tuple[bytes, int, bytes]]:
    (table,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    for header in range(table, table + size * min(count, _SEGMENTS), size):
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
