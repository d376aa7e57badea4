# SPDX-License-Identifier: GPL-2.0-only
"""Write a guest's root as a directory, for guests that have their root exported to them."""

from __future__ import annotations

from pathlib import Path


class FolderWriter:
    """Like CpioWriter, but below a directory; device nodes are left to the guest's devtmpfs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def directory(self, name: str) -> None:
        """Add a directory."""
        (self._root / name).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        """Add a regular file."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def device(self, name: str, major: int, minor: int) -> None:
        """Add nothing."""

    def __contains__(self, name: str) -> bool:
        return (self._root / name).exists()
