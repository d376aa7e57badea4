# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import io
import stat

from vm.cpio import CpioWriter

Member = tuple[int, bytes, tuple[int, int]]


def members(archive: bytes) -> dict[str, Member]:
    """Read one `newc` archive the way the kernel's init/initramfs.c does: mode, content, device."""
    found: dict[str, Member] = {}
    position = 0
    while True:
        assert position % 4 == 0
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * index : position + 14 + 8 * index], 16) for index in range(13)]
        name_end = position + 110 + fields[11]
        name = archive[position + 110 : name_end - 1].decode()
        begin = (name_end + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], archive[begin : begin + fields[6]], (fields[9], fields[10]))
        position = (begin + fields[6] + 3) & ~3


def test_members_come_out_as_they_went_in() -> None:
    """Files, links and devices keep content, mode and numbers, and follow their directories."""
    stream = io.BytesIO()
    writer = CpioWriter(stream)
    writer.file("usr/bin/tool", b"\x7fELF", executable=True)
    writer.file("usr/lib/data", b"12345")
    writer.symlink("usr/bin/link", "tool")
    writer.device("dev/console", 5, 1)
    writer.close()
    found = members(stream.getvalue())
    assert found["usr/bin/tool"] == (stat.S_IFREG | 0o755, b"\x7fELF", (0, 0))
    assert found["usr/lib/data"] == (stat.S_IFREG | 0o644, b"12345", (0, 0))
    assert found["usr/bin/link"] == (stat.S_IFLNK | 0o777, b"tool", (0, 0))
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert list(found) == ["usr", "usr/bin", "usr/bin/tool", "usr/lib", "usr/lib/data", "usr/bin/link", "dev",
                           "dev/console"]  # fmt: skip


def test_archives_may_follow_each_other() -> None:
    """An archive ends on a block boundary, so that the kernel finds the next one right behind it."""
    stream = io.BytesIO()
    for name in ("first", "second"):
        writer = CpioWriter(stream)
        writer.file(name, name.encode())
        writer.close()
        assert stream.tell() % 512 == 0
    half = stream.getvalue().index(b"070701", 512)
    assert half % 512 == 0
    assert list(members(stream.getvalue()[half:])) == ["second"]
