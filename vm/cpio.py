# SPDX-License-Identifier: GPL-2.0-only
"""Write an initramfs: the `newc` cpio format, as in the kernel's Documentation/driver-api/early-userspace."""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from typing import BinaryIO


class CpioWriter:
    """Append members to a stream; parents are created as needed, all belong to root, none has a date."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inode = 0
        self._names: set[str] = set()

    def directory(self, name: str) -> None:
        """Add a directory."""
        if name not in self._names and name != ".":
            self._member(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        """Add a regular file."""
        self._member(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._member(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._member(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def close(self) -> None:
        """Write the trailer; the stream stays open and is padded so that another archive can follow."""
        self._member("TRAILER!!!", 0)
        self._stream.write(bytes(-self._stream.tell() % 512))

    def _member(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        parent = str(PurePosixPath(name).parent)
        if parent != name:
            self.directory(parent)
        self._names.add(name)
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._stream.write(header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4))
