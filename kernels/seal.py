# SPDX-License-Identifier: GPL-2.0-only
"""Check that a cached kernel is unchanged: it is judged under the digest it had when it was cached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from common import cache

SUMS = "sums.json"
SEEN = "seen.json"
_BOOT = ""
"""The key of the host's boot time among the stamps; no file has that name."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def seal(entry: Path) -> None:
    """Record the checksums and stamps of an entry's files."""
    (entry / SUMS).write_text(json.dumps({name: _sum(entry / name) for name in sorted(_names(entry))}))


def flaw(entry: Path) -> str:
    """Say what is wrong with an entry; empty if it is sound. An unsealed entry is sealed as it is.

    Like a template's, its content is only read where the files' dates cannot vouch for it: when one was touched, or
    the host was booted since, and may have lost or spoilt what it wrote.
    """
    try:
        sums = json.loads((entry / SUMS).read_bytes())
    except FileNotFoundError:
        with contextlib.suppress(OSError):  # a cache that may only be read
            _replace(entry / SUMS, {name: _sum(entry / name) for name in sorted(_names(entry))})
        return ""
    except (OSError, ValueError):
        return f"{entry / SUMS} cannot be read"
    seen = _stamps(entry)
    if sums.keys() != seen.keys() - {_BOOT}:
        return f"{entry} does not hold the files it held"
    if _last_seen(entry) == seen:
        return ""
    for name, expected in sums.items():
        if _sum(entry / name) != expected:
            return f"{entry / name} has changed"
    with contextlib.suppress(OSError):
        _replace(entry / SEEN, seen)
    return ""


def _stamps(entry: Path) -> dict[str, object]:
    stamps: dict[str, object] = {_BOOT: BOOT_ID.read_text().strip()}
    for name in _names(entry):
        status = os.lstat(f"{entry}/{name}")
        # Only the kernel sets the change time; no process can set it back.
        stamps[name] = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return stamps


def _last_seen(entry: Path) -> object:
    try:
        return json.loads((entry / SEEN).read_bytes())
    except (OSError, ValueError):
        return None


def _names(entry: Path) -> list[str]:
    start = len(os.fspath(entry)) + 1
    found = [os.path.join(folder, name)[start:] for folder, _, names in os.walk(entry) for name in names]
    return [name for name in found if not name.startswith((SUMS, SEEN))]


def _sum(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, content: object) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content))
        temporary.replace(path)
    finally:
        cache.remove(temporary)
