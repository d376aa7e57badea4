# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that the Debian archive offers, from apt's verified indexes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import total_ordering
from pathlib import Path
from typing import Any

from common import cache
from kernels.apt import Apt, Index, unusable
from kernels.version import Version

_SCHEMA = 3
_PACKAGE = re.compile(
    rb"^Package: (linux-(?:(?:image|binary|modules|base)-\d\S*-amd64(?:-unsigned)?|source-\d+\.\d+))$", re.MULTILINE
)
_IMAGE = re.compile(r"linux-image-(?P<abi>\d[^-]*(?:-\d[^-]*)?)-(?P<cloud>cloud-)?amd64(?P<unsigned>-unsigned)?")
_EXACT = re.compile(r"(linux-[a-z]+-\S+) \(= ([^)]+)\)")
_PART = re.compile(r"(\D*)(\d*)")


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package, as the signed index of its suite has it."""

    name: str
    version: str
    suite: str
    alias: str
    uri: str
    size: int
    sha256: str
    depends: tuple[tuple[str, str], ...]
    """The kernel's other packages, each with its exact version."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A kernel the archive has, with the packages that make it."""

    release: str
    version: Version
    cloud: bool
    packages: tuple[Package, ...]
    """The image first."""

    @property
    def image(self) -> Package:
        """The package with the image."""
        return self.packages[0]

    @property
    def abi(self) -> str:
        """The release without its flavour: `6.12.95+deb12`."""
        return self.release.removesuffix("-amd64").removesuffix("-cloud")

    @property
    def size(self) -> int:
        """Bytes to download."""
        return sum(package.size for package in self.packages)

    def answers(self, wanted: str) -> bool:
        """Return whether a branch, an upstream version, an ABI, a package version or a suite matches it."""
        image = self.image
        names = {self.abi, self.release, image.version, image.version.partition("-")[0], image.suite, image.alias}
        return wanted in names or wanted in (self.version.branch, str(self.version))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything the archive offered when it was last asked."""

    made: float
    """Seconds since the epoch."""
    errors: tuple[str, ...]
    """apt's messages about archives it could not reach."""
    offers: tuple[Offer, ...]
    """Newest first."""
    sources: tuple[Package, ...] = ()
    """To build kernels from; newest first."""

    @property
    def age(self) -> float:
        """Seconds since the archive was asked."""
        return cache.age(self.made)


def catalogue(*, max_age: float) -> Catalogue:
    """Return the archive's offers, asking it if the cached ones are older than `max_age` seconds.

    HostError if the archive cannot be reached and there are no cached offers.
    """
    apt = Apt()
    path = apt.home / f"offers-{apt.fingerprint}.json"
    known = _load(path)
    if known is not None and known.age < max_age:
        return known
    with cache.lock("apt"):
        known = _load(path)  # another process may have asked meanwhile
        if known is not None and known.age < max_age:
            return known
        errors = apt.update()
        every = [package for index in apt.indexes() for package in packages(apt.text(index), index)]
        offers, sources = tuple(_offers(every)), tuple(_sources(every))
        if not offers:
            raise unusable(errors)
        if errors and known is not None:
            return Catalogue(known.made, tuple(errors), offers, sources)  # not written: to be asked again next time
        fresh = Catalogue(time.time(), tuple(errors), offers, sources)
        if not errors:
            cache.write(path, json.dumps({"schema": _SCHEMA, **asdict(fresh)}).encode())
        return fresh


def packages(text: bytes, index: Index) -> Iterator[Package]:
    """Yield the packages that make kernels, or that kernels are made from, in the text of a Packages file."""
    for match in _PACKAGE.finditer(text):
        end = text.find(b"\n\n", match.start())
        stanza = text[match.start() : end if end >= 0 else len(text)].decode("utf-8", "replace")
        field = {key: value for key, _, value in (line.partition(": ") for line in stanza.splitlines())}
        yield Package(
            name=match[1].decode(),
            version=field["Version"],
            suite=index.suite,
            alias=index.alias,
            uri=f"{index.uri.rstrip('/')}/{field['Filename']}",
            size=int(field["Size"]),
            sha256=field["SHA256"],
            depends=tuple(_EXACT.findall(field.get("Depends", ""))),
        )


@total_ordering
class Order:
    """A Debian version, ordered by Debian's Policy, section 5.6.12."""

    def __init__(self, text: str) -> None:
        epoch, colon, rest = text.rpartition(":")
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
        self._key = (int(epoch) if colon else 0, _order(upstream), _order(revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Order) and self._key == other._key

    def __lt__(self, other: Order) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _order(text: str) -> list[tuple[list[int], int]]:
    # The tilde sorts before the end of a part, letters before all else.
    return [
        ([-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in word] + [0], int(digits or 0))
        for word, digits in _PART.findall(text)
    ]


def _offers(every: Sequence[Package]) -> list[Offer]:
    """Return the kernels whose packages are all available, newest first; the signed package if there are both."""
    by_name = {(package.name, package.version): package for package in reversed(every)}
    best: dict[tuple[str, str, str], Offer] = {}
    for package in every:
        match = _IMAGE.fullmatch(package.name)
        parts = [by_name.get(needed, needed[0]) for needed in package.depends]
        # An image that depends on an image is a metapackage. A superseded linux-modules leaves the archive before its
        # linux-image does; linux-base has only the configuration, which images before 6.19 bring along.
        lost = [part for part in parts if isinstance(part, str) and not part.startswith("linux-base-")]
        if match is None or lost or any(name.startswith("linux-image-") for name, _ in package.depends):
            continue
        cloud = match["cloud"] is not None
        release = f"{match['abi']}-{'cloud-' if cloud else ''}amd64"
        whole = (package, *(part for part in parts if isinstance(part, Package)))
        key = (release, package.version, package.suite)
        if match["unsigned"] is None or key not in best:
            best[key] = Offer(release, Version.parse(package.version), cloud, whole)
    return sorted(best.values(), key=lambda offer: Order(offer.image.version), reverse=True)


def _sources(every: Sequence[Package]) -> list[Package]:
    found = [package for package in every if package.name.startswith("linux-source-")]
    return sorted(found, key=lambda package: Order(package.version), reverse=True)


def _load(path: Path) -> Catalogue | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if data.get("schema") != _SCHEMA:
        return None
    offers = tuple(
        Offer(
            release=offer["release"],
            version=Version(**offer["version"]),
            cloud=offer["cloud"],
            packages=tuple(map(_package, offer["packages"])),
        )
        for offer in data["offers"]
    )
    return Catalogue(data["made"], tuple(data["errors"]), offers, tuple(map(_package, data["sources"])))


def _package(data: dict[str, Any]) -> Package:
    return Package(**{**data, "depends": tuple(map(tuple, data["depends"]))})
