# SPDX-License-Identifier: GPL-2.0-only
"""Kernel specs: what the user types, checked and taken apart without touching network or cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from common.errors import UsageError

FORMS = "debian:VERSION[/cloud], debian:SUITE[/cloud], a directory, a file, installed:RELEASE or host"

_VERSION = re.compile(r"\d+\.\d+[\w.+~-]*")
_SUITE = re.compile(r"[a-z][a-z-]*")
_RELEASE = re.compile(r"\d+\.\d+[\w.+~-]*")


class Source(StrEnum):
    """Where a kernel comes from."""

    DEBIAN = "debian"
    INSTALLED = "installed"
    HOST = "host"
    DIRECTORY = "directory"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Spec:
    """A kernel spec, taken apart."""

    text: str
    """What the user typed."""
    source: Source
    wanted: str
    """A version, a suite, a release or an absolute path; "" for the host."""
    cloud: bool = False
    """Whether the cloud flavour is asked for; only with `debian:`."""

    @property
    def slug(self) -> str:
        """The spec as part of a test id: `[a-z0-9_.-]` only."""
        match self.source:
            case Source.DIRECTORY | Source.FILE:
                text = Path(self.wanted).name
            case _:
                text = self.text.replace(":", "-").replace("/", "-")
        return re.sub(r"[^a-z0-9_.-]", "_", text.lower()) or "root"


def parse(text: str) -> Spec:
    """Take a spec apart; UsageError says what is wrong with it. Whether a path exists is looked up, nothing else."""
    scheme, colon, rest = text.partition(":")
    if text == Source.HOST:
        return Spec(text, Source.HOST, "")
    if colon and scheme == Source.DEBIAN:
        wanted, slash, flavour = rest.partition("/")
        if not (_VERSION.fullmatch(wanted) or _SUITE.fullmatch(wanted)):
            raise UsageError(
                f"{text!r} names neither a version nor a suite", hint="e.g. debian:6.12, debian:trixie-backports"
            )
        if slash and flavour != "cloud":
            raise UsageError(
                f"{text!r} asks for the flavour {flavour!r}", hint="the only one is /cloud; without it, generic"
            )
        return Spec(text, Source.DEBIAN, wanted, cloud=bool(slash))
    if colon and scheme == Source.INSTALLED:
        if not _RELEASE.fullmatch(rest):
            raise UsageError(
                f"{text!r} names no release", hint="e.g. installed:6.1.0-50-amd64; `ls /lib/modules` lists them"
            )
        return Spec(text, Source.INSTALLED, rest)
    return _path(text)


def _path(text: str) -> Spec:
    path = Path(text).expanduser()
    if text and path.is_dir():
        return Spec(text, Source.DIRECTORY, str(path.resolve()))
    # A pipe or a device is no kernel, but the reader of files says so better than "does not exist".
    if text and path.exists():
        return Spec(text, Source.FILE, str(path.absolute()))
    if "/" in text or text.startswith((".", "~")):
        raise UsageError(f"no such file or directory: {text}", hint=f"a kernel is {FORMS}")
    guess = f"did you mean debian:{text}? " if _VERSION.fullmatch(text) else ""
    raise UsageError(f"unknown kernel {text!r}", hint=f"{guess}a kernel is {FORMS}")
