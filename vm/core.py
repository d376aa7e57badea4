# SPDX-License-Identifier: GPL-2.0-only
"""Guest memory dumps: give QEMU's ELF core the note that crash and drgn look for."""

from __future__ import annotations

import os
import struct
from pathlib import Path

HEADER = struct.Struct("<32sQQIHHHHHH")
"""`Elf64_Ehdr`: up to e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, ..."""

SEGMENT = struct.Struct("<IIQQQQQQ")
"""`Elf64_Phdr`: type, flags, offset, vaddr, paddr, filesz, memsz, align."""

PT_LOAD = 1
PT_NOTE = 4


def add_note(path: Path, address: int, size: int) -> None:
    """Add the VMCOREINFO note, `size` bytes at a physical address, as a segment of the core; nothing is copied.

    QEMU does so itself for guests whose kernel has FW_CFG_SYSFS, which not all have; the note is in the dump anyway,
    and /sys/kernel/vmcoreinfo tells where. The program headers move to the end of the file to gain one.
    """
    with path.open("r+b") as file:
        header = list(HEADER.unpack(file.read(HEADER.size)))
        file.seek(header[1])
        table = file.read(header[6] * SEGMENT.size)
        loads = [segment for segment in SEGMENT.iter_unpack(table) if segment[0] == PT_LOAD]
        offset = next((s[2] + address - s[4] for s in loads if s[4] <= address < s[4] + s[5]), None)
        if offset is None:
            return
        header[1] = file.seek(0, os.SEEK_END)
        header[6] += 1
        file.write(table + SEGMENT.pack(PT_NOTE, 0, offset, 0, 0, size, size, 4))
        file.seek(0)
        file.write(HEADER.pack(*header))
