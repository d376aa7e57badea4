# SPDX-License-Identifier: GPL-2.0-only
"""The project's virtual environment, `.venv` in the checkout: where it is and whether it is what it should be.

Consulted on every start, so it compares text rather than hashes, and spawns nothing.
"""

from __future__ import annotations

import os
import sys

RUN = "requirements.txt"
DEVELOPMENT = "requirements-dev.txt"


class Environment:
    """The virtual environment of one checkout."""

    __slots__ = ("bytecode", "folder", "python", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self.folder = os.path.join(root, ".venv")
        self.python = os.path.join(self.folder, "bin", "python")
        self.bytecode = os.path.join(self.folder, "bytecode")

    def stale(self, command: str) -> list[str]:
        """Return the requirements files of `./conform COMMAND` whose current content is not installed."""
        files = (RUN, DEVELOPMENT) if command == "test" else (RUN,)
        return [name for name in files if _read(self.stamp(name)) != self.state(name)]

    def stamp(self, name: str) -> str:
        """Return the file that is written once the whole requirements file `name` is installed."""
        return os.path.join(self.folder, f"{name}.installed")

    def state(self, name: str) -> bytes:
        """Return what the stamp of `name` must hold: Python, checkout (scripts carry its path) and requirements."""
        python = f"{sys.version_info.major}.{sys.version_info.minor} {os.path.realpath(sys.executable)}"
        return f"# {python}\n# {self.root}\n".encode() + _read(os.path.join(self.root, name))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
