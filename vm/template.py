# SPDX-License-Identifier: GPL-2.0-only
"""Templates: a guest that was booted once, with its agent warmed up, and saved to the cache; clones start from it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from common import cache
from vm.compose import Composition
from vm.machine import Bundle, MachineInfo, MachineKind

FORMAT = 4
"""Part of every key: raise it when the meaning of a template's files changes."""

MANIFEST = "manifest.json"
SEALED = re.compile(r'\{"checksum": "([0-9a-f]{8})", "template":\n(.*)\n\}')
"""A manifest; the checksum covers its second line."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CHUNK = 1 << 20
KEPT = 2
"""Generations of one template that stay in the cache: two checkouts may share a kernel but not their guest code."""

UNUSED_SECONDS = 14 * 86400.0


def generation(bundle: Bundle) -> str:
    """Return a digest of the guest code that the template's agent has imported."""
    return hashlib.sha256(json.dumps(dict(bundle), sort_keys=True).encode()).hexdigest()[:12]


def folder_of(key: str, bundle: Bundle) -> Path:
    """Return the folder of the template for `key` whose agent has imported `bundle`; it may not exist."""
    return _templates() / f"{key}-{generation(bundle)}"


def newest(key: str) -> Path | None:
    """Return the template for `key` that was prepared last; clones receive newer guest code when they start."""
    return next(iter(_generations(key)), None)


def identity(folder: Path) -> list[int]:
    """Return what distinguishes a template from one that may replace it."""
    try:
        return [(folder / MANIFEST).stat().st_ino, *stamp(folder / MANIFEST)]
    except OSError:
        return []


def discard(folder: Path, seen: list[int]) -> None:
    """Discard a bad template, unless another process has already replaced it."""
    if identity(folder) == seen:
        cache.discard(folder)


def retire(key: str) -> None:
    """Discard all but the newest generations of a template, and templates that no run has used for weeks."""
    for folder in _generations(key)[KEPT:]:
        cache.discard(folder)
    for folder in _generations("*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > UNUSED_SECONDS:
                cache.discard(folder)


def _generations(key: str) -> list[Path]:
    dated = []
    for folder in _templates().glob(f"{key}-*"):
        with contextlib.suppress(FileNotFoundError):
            dated.append((folder.stat().st_mtime_ns, folder))
    return [folder for _, folder in sorted(dated, reverse=True)]


def _templates() -> Path:
    return cache.root() / "templates"


class DamagedTemplateError(Exception):
    """A template is not what was saved."""


@dataclass(frozen=True, slots=True)
class Template:
    """A saved guest, or the reason why there is none."""

    folder: Path
    composition: Composition
    info: MachineInfo
    checksums: dict[str, str]
    stamps: dict[str, list[int]]
    """Size and modification time of each file, trusted instead of the checksum while the host stays up."""
    boot_id: str
    note: str = ""
    """Why there is no snapshot, if there is none."""

    @property
    def ram(self) -> Path:
        """The guest's memory."""
        return self.folder / "ram"

    @property
    def state(self) -> Path:
        """The state of the guest besides its memory."""
        return self.folder / "state"

    @property
    def age(self) -> float:
        """Seconds since the template was saved."""
        return cache.age((self.folder / MANIFEST).stat().st_mtime)

    @classmethod
    def read(cls, folder: Path) -> Template:
        """Read a template's manifest; DamagedTemplateError if that fails."""
        try:
            checksum, text = _sealed((folder / MANIFEST).read_text())
            if checksum != _sum_of(text):
                raise DamagedTemplateError("its manifest has changed since it was saved")
            data = json.loads(text)
            composition = Composition(**{**data["composition"], "arguments": tuple(data["composition"]["arguments"])})
            replaced = {"kind": MachineKind(data["info"]["kind"]), "template": "", "generation": (), "built": False}
            info = MachineInfo(**{**data["info"], **replaced})
            return cls(folder, **{**data, "composition": composition, "info": info})
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DamagedTemplateError(f"its manifest cannot be read ({type(error).__name__})") from error

    def write(self) -> None:
        """Write the manifest."""
        data = {name: value for name, value in dataclasses.asdict(self).items() if name != "folder"}
        text = json.dumps(data, default=os.fspath)
        (self.folder / MANIFEST).write_text(f'{{"checksum": "{_sum_of(text)}", "template":\n{text}\n}}')

    def opened_state(self) -> BinaryIO:
        """Open the state; DamagedTemplateError if that fails: another process may discard a template at any moment."""
        try:
            return self.state.open("rb")
        except OSError as error:
            raise DamagedTemplateError("its state cannot be read") from error

    def verify(self, *, closely: bool = False) -> None:
        """Raise DamagedTemplateError unless the files are those that were saved.

        The memory has some 200 MB. Its checksum is computed only if the file's date has changed, if the host was
        booted since (it may have lost writes), or with `closely`.
        """
        dated = not closely and self.boot_id == BOOT_ID.read_text().strip()
        for name, checksum in self.checksums.items():
            path = self.folder / name
            try:
                if dated and name == "ram" and stamp(path) == self.stamps[name]:
                    continue
                if checksum_of(path) != checksum:
                    raise DamagedTemplateError(f"its {name} has changed since it was saved")
            except OSError as error:
                raise DamagedTemplateError(f"its {name} cannot be read") from error


def _sealed(text: str) -> tuple[str, str]:
    """Split a manifest into checksum and text; ValueError if it does not have this form."""
    match = SEALED.fullmatch(text)
    if match is None:
        raise ValueError("not sealed")
    return match[1], match[2]


def _sum_of(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def seal(folder: Path, composition: Composition, info: MachineInfo, *, note: str = "") -> None:
    """Write the manifest of `folder`: of a template, or of the reason why there can be none."""
    names = ("ram", "state") if info.kind is MachineKind.CLONE else ()
    Template(
        folder,
        composition,
        info,
        checksums={name: checksum_of(folder / name) for name in names},
        stamps={name: stamp(folder / name) for name in names},
        boot_id=BOOT_ID.read_text().strip(),
        note=note,
    ).write()


def stamp(path: Path) -> list[int]:
    """Return size and modification time of a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def checksum_of(path: Path) -> str:
    """Checksum a sparse file; holes cost nothing."""
    value = 0
    with path.open("rb", buffering=0) as file:
        for start, end in _extents(file.fileno()):
            value = zlib.crc32(start.to_bytes(8, "little"), value)
            os.lseek(file.fileno(), start, os.SEEK_SET)
            left = end - start
            while left and (chunk := file.read(min(CHUNK, left))):
                value = zlib.crc32(chunk, value)
                left -= len(chunk)
    return f"{path.stat().st_size}:{value:08x}"


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes."""
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.truncate(source.stat().st_size)
        for start, end in _extents(reader.fileno()):
            position = start
            while position < end:
                position += os.copy_file_range(reader.fileno(), writer.fileno(), end - position, position, position)


def _extents(descriptor: int) -> Iterator[tuple[int, int]]:
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: the rest is a hole
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
