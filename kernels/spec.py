# SPDX-License-Identifier: GPL-2.0-only
"""Kernel specs: parse and check the user's text, without network or cache."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from common.errors import UsageError
from kernels.patches import check_patch

FORMS = (
    "debian:VERSION[/cloud], debian:SUITE[/cloud], source:VERSION, tree:PATH[@REV], a directory, a file,"
    " installed:RELEASE or host"
)

_VERSION = re.compile(r"\d+\.\d+[\w.+~-]*")
_SUITE = re.compile(r"[a-z][a-z-]*")
_RELEASE = re.compile(r"\d+\.\d+[\w.+~-]*")
_OPTION = re.compile(r",(?=[a-z]+=)")
"""A comma in a path separates only if an option follows it."""
_OPTIONS = ("patch", "config", "preset")
"""The options of a kernel that is built."""


class SpecSource(StrEnum):
    """Where a kernel comes from."""

    DEBIAN = "debian"
    SOURCE = "source"
    TREE = "tree"
    INSTALLED = "installed"
    HOST = "host"
    DIRECTORY = "directory"
    FILE = "file"


class Preset(StrEnum):
    """A build configuration: virtme-ng's, and the fragments of that name."""

    FAST = "fast"
    DEBUG = "debug"


@dataclass(frozen=True, slots=True)
class Spec:
    """A parsed kernel spec."""

    text: str
    """What the user typed."""
    source: SpecSource
    wanted: str
    """A version, a suite, a release or an absolute path; "" for the host."""
    cloud: bool = False
    """Whether the cloud flavour is asked for; only with `debian:`."""
    revision: str = ""
    """The revision for git, or "" for the working tree; only with `tree:`."""
    patches: tuple[Path, ...] = ()
    """Patches, applied in this order before building."""
    fragments: tuple[Path, ...] = ()
    """Fragments of a configuration; the last one to name a symbol wins."""
    preset: Preset = Preset.FAST

    @property
    def builds(self) -> bool:
        """Whether this kernel is built from source by the suite."""
        return self.source in (SpecSource.SOURCE, SpecSource.TREE)

    @property
    def slug(self) -> str:
        """The spec as part of a test id: `[a-z0-9_.-]` only."""
        match self.source:
            case SpecSource.DIRECTORY | SpecSource.FILE:
                text = Path(self.wanted).name
            case SpecSource.SOURCE | SpecSource.TREE:
                parts = [self.source, Path(self.wanted).name, self.revision]
                parts += [path.stem[:40] for path in (*self.patches, *self.fragments)]
                parts += [self.preset] if self.preset != Preset.FAST else []
                text = "-".join(filter(None, parts))
            case _:
                text = self.text.replace(":", "-").replace("/", "-")
        return re.sub(r"[^a-z0-9_.-]", "_", text.lower()) or "root"


def parse(text: str) -> Spec:
    """Parse a spec; UsageError says what is wrong with it. Only the existence of paths is checked."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in (SpecSource.SOURCE, SpecSource.TREE):
        return _built(text, SpecSource(scheme), rest)
    _refuse_options(text)
    if text == SpecSource.HOST:
        return Spec(text, SpecSource.HOST, "")
    if colon and scheme == SpecSource.DEBIAN:
        return _debian(text, rest)
    if colon and scheme == SpecSource.INSTALLED:
        if not _RELEASE.fullmatch(rest):
            raise UsageError(
                f"{text!r} names no release", hint="e.g. installed:6.1.0-50-amd64; `ls /lib/modules` lists them"
            )
        return Spec(text, SpecSource.INSTALLED, rest)
    return _path(text)


def amend(text: str, *, patches: Sequence[str] = (), fragments: Sequence[str] = (), preset: str = "") -> str:
    """Return the spec with additional build options; UsageError if it is not built from source."""
    options = [f"patch={path}" for path in patches]
    options += [f"config={path}" for path in fragments]
    options += [f"preset={preset}"] if preset else []
    if options and not parse(text).builds:
        raise _built_already(text, options[0])
    amended = ",".join([text, *options])
    parse(amended)  # a patch that does not exist must not be noticed after an hour of building the other kernel
    return amended


def _refuse_options(text: str) -> None:
    """Raise UsageError if options of a build follow a kernel that is not built; a path may hold a comma."""
    kernel, *options = _OPTION.split(text)
    if options and options[0].partition("=")[0] in _OPTIONS and not os.path.exists(_expanded(text)):
        raise _built_already(kernel, options[0])


def _built_already(kernel: str, option: str) -> UsageError:
    return UsageError(
        f"{kernel} is built already, so it cannot have {option}",
        hint="patches, fragments and presets are for source:VERSION and tree:PATH[@REV]",
    )


def _debian(text: str, rest: str) -> Spec:
    wanted, slash, flavour = rest.partition("/")
    if not _is_version_or_suite(wanted):
        raise UsageError(
            f"{text!r} names neither a version nor a suite", hint="e.g. debian:6.12, debian:trixie-backports"
        )
    if slash and flavour != "cloud":
        raise UsageError(
            f"{text!r} asks for the flavour {flavour!r}", hint="the only one is /cloud; without it, generic"
        )
    return Spec(text, SpecSource.DEBIAN, wanted, cloud=bool(slash))


def _built(text: str, source: SpecSource, rest: str) -> Spec:
    wanted, *options = _OPTION.split(rest)
    revision = ""
    if source is SpecSource.TREE:
        wanted, revision = _repository(text, wanted)
    elif not _is_version_or_suite(wanted):
        raise UsageError(f"{text!r} names neither a version nor a suite", hint="e.g. source:7.3, source:sid")
    patches, fragments, presets = [], [], []
    for option in options:
        key, _, value = option.partition("=")
        match key:
            case "patch":
                patches.append(_file(value, "patch"))
                check_patch(patches[-1])
            case "config":
                fragments.append(_file(value, "fragment of a configuration"))
            case "preset":
                presets.append(value)
            case _:
                there = ", ".join(f"{each}=" for each in _OPTIONS)
                raise UsageError(f"{text!r} has the unknown option {key!r}", hint=f"there are {there}")
    wrong = next((preset for preset in presets if preset not in list(Preset)), None)
    if wrong is not None:
        raise UsageError(f"there is no preset {wrong!r}", hint=f"there are: {', '.join(Preset)}")
    if len(set(presets)) > 1:
        raise UsageError(f"{text!r} asks for the presets {' and '.join(presets)}", hint="give one preset")
    preset = Preset(presets[0]) if presets else Preset.FAST
    return Spec(
        text, source, wanted, revision=revision, patches=tuple(patches), fragments=tuple(fragments), preset=preset
    )


def _repository(text: str, wanted: str) -> tuple[str, str]:
    """Split `PATH@REV`; both may have an @, but only the path exists."""
    places = [len(wanted), *(at for at, letter in enumerate(wanted) if letter == "@")]
    for at in places:
        path = _expanded(wanted[:at])
        if at and os.path.isdir(path):
            if wanted[at:] == "@":
                raise UsageError(f"{text!r} names no revision after the @", hint="e.g. tree:~/linux@v7.3")
            return str(path.resolve()), wanted[at + 1 :]
    named = wanted.partition("@")[0]
    raise UsageError(
        f"no such directory: {named}" if named else f"{text!r} names no directory",
        hint="tree: needs a git repository of Linux, and may name a revision: tree:~/linux@v7.3",
    )


def _file(value: str, what: str) -> Path:
    path = _expanded(value)
    if value and os.path.exists(path) and not os.path.isfile(path):
        # A patch is read several times, and the cache is keyed by its content: a pipe would be empty by then.
        raise UsageError(
            f"{value!r} is not a regular file, so it cannot be a {what}",
            hint="give a file; write what a command prints to one first",
        )
    if not os.path.isfile(path):
        raise UsageError(
            f"there is no {what} {value!r}", hint="give a file; paths are relative to the current directory"
        )
    return path.absolute()


def _expanded(text: str) -> Path:
    """Return a text as a path; the `~` of an unknown user stays, where pathlib raises RuntimeError."""
    return Path(os.path.expanduser(text))


def _is_version_or_suite(wanted: str) -> bool:
    return bool(_VERSION.fullmatch(wanted) or _SUITE.fullmatch(wanted))


def _path(text: str) -> Spec:
    path = _expanded(text)
    if text and os.path.isdir(path):
        return Spec(text, SpecSource.DIRECTORY, str(path.resolve()))
    # A pipe or a device exists, and gets a better error when it is read.
    if text and os.path.exists(path):
        return Spec(text, SpecSource.FILE, str(path.absolute()))
    if "/" in text or text.startswith((".", "~")):
        raise UsageError(f"no such file or directory: {text}", hint=f"a kernel is {FORMS}")
    guess = f"did you mean debian:{text}? " if _VERSION.fullmatch(text) else ""
    raise UsageError(f"unknown kernel {text!r}", hint=f"{guess}a kernel is {FORMS}")
