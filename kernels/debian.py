# SPDX-License-Identifier: GPL-2.0-only
"""`debian:` kernels: found in the archive, verified by apt, unpacked into the cache, remembered for a day."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import cache
from common.errors import HostError, UsageError
from kernels import artifact, deb, modules, seal
from kernels.apt import Apt, unusable
from kernels.archive import Catalogue, Offer, Package, catalogue
from kernels.kernel import Kernel
from kernels.spec import Spec
from kernels.version import Version

Progress = Callable[[str], None]

DAY = 24 * 3600.0
_LAYOUT = "layout 2"
"""Part of every entry's key: raise it when the unpacked files or their places change."""


def resolve(spec: Spec, refresh: bool, progress: Progress) -> Kernel:
    """Return the newest kernel that matches `spec`, from the cache if it was resolved less than a day ago.

    `refresh` asks the archive in any case. If the archive cannot be reached, an earlier resolution is used.
    """
    memory = cache.root() / "resolved" / f"{spec.slug}.json"
    known = _sound(spec, _remembered(memory), progress)
    if known is not None and not refresh and cache.age(known[1]) < DAY:
        return _load(spec, known[0])
    try:
        entry = _fetch(spec, refresh, progress)
    except HostError as error:
        if known is None or refresh:
            raise
        progress(f"{spec.text}: {error}; using the kernel found {time.strftime('%Y-%m-%d', time.localtime(known[1]))}")
        return _load(spec, known[0])
    note = {"spec": spec.text, "layout": _LAYOUT, "entry": entry.name, "when": time.time()}
    cache.write(memory, json.dumps(note).encode())
    return _load(spec, entry)


def choose(spec: Spec, offered: Catalogue) -> Offer:
    """Return the newest matching offer; UsageError with the nearest versions if there is none."""
    flavoured = [offer for offer in offered.offers if offer.cloud == spec.cloud]
    for offer in flavoured:
        if offer.answers(spec.wanted):
            return offer
    raise UsageError(
        f"no suite of the archive has the kernel {spec.text!r}",
        hint=f"the nearest: {', '.join(nearest(spec.wanted, flavoured))}; `./conform kernels` lists all",
    )


def nearest(wanted: str, offers: Sequence[Offer], count: int = 4) -> list[str]:
    """Return specs of existing kernels closest to a version that does not exist, or the existing suites."""
    try:
        version = Version.parse(wanted)
    except ValueError:
        return [f"debian:{suite}" for suite in sorted({offer.image.suite for offer in offers})]
    same_branch = [offer for offer in offers if offer.version.branch == version.branch]
    if same_branch:
        same_branch.sort(key=lambda offer: abs(offer.version.sublevel - version.sublevel))
        return list(dict.fromkeys(f"debian:{offer.abi}" for offer in same_branch))[:count]
    branches = {(offer.version.major, offer.version.minor) for offer in offers}
    # The branches before and after it, in the order of release.
    below = sorted(branch for branch in branches if branch < (version.major, version.minor))
    above = sorted(branch for branch in branches if branch > (version.major, version.minor))
    return [f"debian:{major}.{minor}" for major, minor in [*below[-(count // 2) :], *above[: count // 2]]]


def _fetch(spec: Spec, refresh: bool, progress: Progress) -> Path:
    progress(f"{spec.text}: asking the archive")
    offered = catalogue(max_age=0 if refresh else DAY)
    if refresh and offered.errors:
        raise unusable(offered.errors)
    for error in offered.errors:
        progress(f"{spec.text}: {error}")
    try:
        offer = choose(spec, offered)
    except UsageError:
        if offered.age < 60:
            raise
        offer = choose(spec, catalogue(max_age=60))  # the archive may have it by now
    entry = cache.root() / "kernels" / _key(offer)
    if entry.is_dir() and seal.flaw(entry):
        cache.discard(entry)
    return cache.publish(entry, lambda temporary: _build(spec, offer, temporary, progress))


def _build(spec: Spec, offer: Offer, root: Path, progress: Progress) -> None:
    apt = Apt()
    downloads = root / "download"
    downloads.mkdir(parents=True)
    for package in offer.packages:
        progress(f"{spec.text}: downloading {package.name} ({_megabytes(package)})")
        file = downloads / f"{package.name}.deb"
        apt.download(package.uri, package.sha256, file)
        progress(f"{spec.text}: unpacking {package.name}")
        deb.unpack(file, root, offer.release)
        file.unlink()
    shutil.rmtree(downloads)
    bzimage = root / "boot" / f"vmlinuz-{offer.release}"
    if not bzimage.is_file():
        raise HostError(
            f"{offer.image.name} holds no image", hint="try another version; this package is not built as expected"
        )
    progress(f"{spec.text}: indexing {offer.release}")
    artifact.prepare(bzimage, root)
    modules.depmod(root, offer.release)
    facts = {
        "release": offer.release,
        "package": offer.image.name,
        "version": offer.image.version,
        "suite": offer.image.suite,
        "sha256": offer.image.sha256,
    }
    (root / "kernel.json").write_text(json.dumps(facts))
    seal.seal(root)


def _sound(spec: Spec, known: tuple[Path, float] | None, progress: Progress) -> tuple[Path, float] | None:
    """Return a cached kernel if it is unchanged; else discard it."""
    if known is None or not (flaw := seal.flaw(known[0])):
        return known
    progress(f"{spec.text}: the kernel in the cache is discarded: {flaw}")
    cache.discard(known[0])
    return None


def _load(spec: Spec, entry: Path) -> Kernel:
    cache.touch(entry)
    facts = json.loads((entry / "kernel.json").read_text())
    release = facts.pop("release")
    image = artifact.prepared(entry, entry.name, compressed=entry / "boot" / f"vmlinuz-{release}")
    config = entry / "boot" / f"config-{release}"
    return artifact.kernel(
        spec,
        image,
        modules_root=entry,
        config=config if config.is_file() else None,
        provenance={**facts, "path": str(entry)},
        digest=entry.name,
    )


def _remembered(memory: Path) -> tuple[Path, float] | None:
    """Return the entry and the time of an earlier resolution whose kernel is still there."""
    try:
        data = json.loads(memory.read_bytes())
        entry, when = cache.root() / "kernels" / data["entry"], float(data["when"])
    except (OSError, ValueError, KeyError):
        return None
    return (entry, when) if data.get("layout") == _LAYOUT and (entry / "kernel.json").is_file() else None


def _key(offer: Offer) -> str:
    content = " ".join([_LAYOUT, *(package.sha256 for package in offer.packages)])
    return hashlib.sha256(content.encode()).hexdigest()


def _megabytes(package: Package) -> str:
    return f"{package.size / 1e6:.0f} MB" if package.size > 1e6 else f"{package.size / 1e3:.0f} kB"
