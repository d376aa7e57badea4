# SPDX-License-Identifier: GPL-2.0-only
"""List the kernels in the cache and in the archive, fetch one, and prune the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common import cache
from kernels.archive import catalogue
from kernels.debian import DAY
from kernels.kernel import Kernel
from kernels.resolve import Progress, resolve


@dataclass(frozen=True, slots=True)
class Cached:
    """A Debian kernel in the cache."""

    specs: tuple[str, ...]
    """The specs that resolve to it now; none if a newer kernel replaced it."""
    release: str
    package: str
    version: str
    suite: str
    path: Path
    bytes: int
    """On disk."""
    fetched: float
    """Seconds since the epoch."""
    used: float
    """Seconds since the epoch, the last time it was resolved."""


@dataclass(frozen=True, slots=True)
class Built:
    """A kernel in the cache that was built here."""

    spec: str
    """The first spec that resolved to it."""
    release: str
    title: str
    """The source it was built from."""
    bytes: int
    """On disk."""
    used: float
    """Seconds since the epoch, the last time it was resolved."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A kernel the archive has."""

    suite: str
    release: str
    version: str
    """Of the package."""
    cloud: bool
    bytes: int
    """To download."""


def cached() -> list[Cached]:
    """Return the Debian kernels in the cache, the one used last first."""
    found = []
    names = _names()
    for path in (cache.root() / "kernels").glob("*/kernel.json"):
        facts = json.loads(path.read_text())
        entry = path.parent
        found.append(
            Cached(
                specs=tuple(sorted(names.get(entry.name, ()))),
                release=facts["release"],
                package=facts["package"],
                version=facts["version"],
                suite=facts["suite"],
                path=entry,
                bytes=cache.size(entry),
                fetched=path.stat().st_mtime,
                used=entry.stat().st_mtime,
            )
        )
    return sorted(found, key=lambda kernel: kernel.used, reverse=True)


def built() -> list[Built]:
    """Return the kernels that were built here, the one used last first."""
    found = []
    for path in (cache.root() / "built").glob("*/kernel.json"):
        facts, entry = json.loads(path.read_text()), path.parent
        found.append(
            Built(facts["spec"], facts["release"], facts["title"], cache.size(entry), used=entry.stat().st_mtime)
        )
    return sorted(found, key=lambda kernel: kernel.used, reverse=True)


def offered(*, refresh: bool = False) -> list[Offered]:
    """Return the kernels of every suite of the archive, newest first; it is asked at most once a day."""
    return [
        Offered(offer.image.suite, offer.release, offer.image.version, offer.cloud, offer.size)
        for offer in catalogue(max_age=0 if refresh else DAY).offers
    ]


def fetch(spec: str, *, progress: Progress | None = None) -> Kernel:
    """Ask the archive for the newest kernel that matches `spec`, and put it into the cache."""
    return resolve(spec, refresh=True, progress=progress)


def prunable(*, days: float | None = None) -> list[Path]:
    """Return the kernels unused for `days`, or all."""
    deadline = time.time() - days * DAY if days else float("inf")
    entries = [*_entries(), *([] if days else (cache.root() / "sources",))]
    return [entry for entry in entries if entry.exists() and entry.stat().st_mtime < deadline]


def prune(*, days: float | None = None) -> int:
    """Remove kernels unused for `days`, or all, and leftovers of killed runs; returns the bytes freed.

    Do not run it beside a run: it would lose its kernel.
    """
    freed = 0
    for entry in prunable(days=days):
        freed += cache.size(entry)
        cache.discard(entry)
    for memory in list((cache.root() / "resolved").glob("*.json")):
        if not (cache.root() / "kernels" / _remembered(memory)[1]).is_dir():
            cache.discard(memory)
    freed += sum(cache.size(path) for path in (cache.root() / "partial").glob("*"))
    cache.sweep()
    freed -= sum(cache.size(path) for path in (cache.root() / "partial").glob("*"))
    return freed


def _entries() -> Iterator[Path]:
    for kind in ("kernels", "images", "modules", "templates", "stock", "built", "trees"):
        yield from (cache.root() / kind).glob("*")


def _names() -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for memory in (cache.root() / "resolved").glob("*.json"):
        spec, entry = _remembered(memory)
        names.setdefault(entry, []).append(spec)
    return names


def _remembered(memory: Path) -> tuple[str, str]:
    try:
        note = json.loads(memory.read_bytes())
        return str(note["spec"]), str(note["entry"])
    except (ValueError, KeyError):
        return memory.stem, "?"
