# SPDX-License-Identifier: GPL-2.0-only
"""Kernels built from source: cached by content, and compiled again only where they differ from an earlier build.

Two folders of the cache: `trees/` has a tree for each origin and configuration, in which make finds what it made last
time; `built/` has each kernel that came out of one, by what it was made of.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from common import cache, foreign
from common.errors import HostError, KernelError, UsageError
from kernels import artifact, config, make, modules, origin, patches, seal
from kernels.kernel import Kernel
from kernels.origin import Origin
from kernels.repository import GitError
from kernels.spec import Preset, Spec
from kernels.tree import BZIMAGE

Progress = Callable[[str], None]

FRAGMENTS = Path(__file__).with_name("fragments")
PRESETS = {
    Preset.FAST: ("suite", "fast"),
    Preset.DEBUG: ("suite", "fast", "debug"),
}
"""The fragments of each preset; the last one overrides."""

_LAYOUT = "layout 1"
"""Part of every key: raise it when what is kept, or how it is built, changes."""
_CONFIGURING = re.compile(r"(.*/)?Kconfig|scripts/|arch/x86/configs/|(arch/x86/)?Makefile$")
"""Files that a .config depends on."""
_SYMBOL = re.compile(r"""(?:(CONFIG_\w+)=("[^"]*"|[\w.+-]*)|# (CONFIG_\w+) is not set)\s*""")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a built kernel."""

    spec: Spec
    origin: Origin
    tree: str
    """With its patches applied."""
    fragments: tuple[Path, ...]
    tools: str

    @property
    def folder(self) -> Path:
        """The build folder, shared with kernels that differ only in their source."""
        return cache.root() / "trees" / self._digest(self.origin.name)[:16]

    @property
    def key(self) -> str:
        """Name the kernel by its content."""
        return self._digest(self.tree)

    def _digest(self, source: str) -> str:
        identity = [_LAYOUT, source, sorted(_wanted(self.fragments).items()), self.tools, make.RELEASE_SUFFIX]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def resolve(spec: Spec, refresh: bool, progress: Progress) -> Kernel:
    """Return the kernel that a building spec means, built if it is not in the cache.

    KernelError if a patch does not apply, the source does not build, or the configuration cannot be had.
    """
    make.check_tools()
    _check(spec.fragments)
    found = origin.find(spec, refresh, progress)

    def tell(text: str) -> None:
        progress(f"{spec.text}: {text}")

    tree = patches.apply(found.repository, found.tree, spec.patches, found.title, tell)
    fragments = (*(FRAGMENTS / f"{name}.config" for name in PRESETS[spec.preset]), *spec.fragments)
    recipe = Recipe(spec, found, tree, fragments, f"{make.compiler()}; virtme-ng {_virtme()}")
    entry = cache.root() / "built" / recipe.key
    if entry.is_dir() and (flaw := seal.flaw(entry)):
        progress(f"{spec.text}: the kernel in the cache is discarded: {flaw}")
        cache.discard(entry)
    cache.publish(entry, lambda temporary: _build(recipe, temporary, progress))
    return _load(recipe, entry)


def _build(recipe: Recipe, entry: Path, progress: Progress) -> None:
    folder, tree = recipe.folder, recipe.folder / "linux"
    log = folder / "build.log"

    def tell(text: str) -> None:
        progress(f"{recipe.spec.text}: {text}")

    with cache.lock(f"trees@{folder.name}", wait=False) as free:
        if not free:
            tell("waiting for another build in the same tree")
    with cache.lock(f"trees@{folder.name}"):
        begin = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        cache.touch(folder)
        log.write_text(foreign.page(f"{recipe.spec.text}: {recipe.origin.title}, tree {recipe.tree}\n"))
        tell(f"building {recipe.origin.title}; {log} has the details")
        recipe.origin.repository.check_out(recipe.tree, tree, folder / "index")
        _configure(recipe, log)
        _verify(recipe, config.read(tree / ".config"), tell)
        make.build(tree, log, lambda text: tell(f"building, {_minutes(begin)}: {text}"))
        release = _collect(tree, entry, log)
        facts = {"spec": recipe.spec.text, "title": recipe.origin.title, "release": release}
        (entry / "kernel.json").write_text(json.dumps(facts))
        tell(f"built in {_minutes(begin)}")
        shutil.copyfile(log, entry / "build.log")
        seal.seal(entry)


def _configure(recipe: Recipe, log: Path) -> None:
    """Configure the tree, unless nothing that decides about it has changed since it was configured last."""
    note = recipe.folder / "configured"
    try:
        changed = recipe.origin.repository.changed(note.read_text(), recipe.tree)
    except (OSError, GitError):
        changed = ["Kconfig"]
    if not any(map(_CONFIGURING.match, changed)):
        return
    note.unlink(missing_ok=True)
    make.configure(recipe.folder / "linux", recipe.fragments, log)
    note.write_text(recipe.tree)


def _verify(recipe: Recipe, found: dict[str, str], tell: Progress) -> None:
    """Check that the configuration has each requested symbol; a preset's symbol may be newer than the kernel."""
    wanted = _wanted(recipe.fragments)
    lost = [symbol for symbol, value in wanted.items() if found.get(symbol, "n") != value]
    asked = _wanted(recipe.spec.fragments)
    denied = [f"CONFIG_{symbol}={asked[symbol]}" for symbol in lost if symbol in asked]
    if denied:
        raise KernelError(
            f"{recipe.spec.text} cannot be configured with {', '.join(denied)}",
            hint="this kernel does not have the symbol, or what it depends on is off, or another symbol selects it",
        )
    # A symbol that a preset turns off only to save build time may be on.
    if absent := [f"CONFIG_{symbol}" for symbol in lost if wanted[symbol] != "n"]:
        tell(f"this kernel cannot have {', '.join(absent)}")


def _collect(tree: Path, entry: Path, log: Path) -> str:
    """Copy the kernel, its modules and its symbols out of the build tree; return the release."""
    release = (tree / "include" / "config" / "kernel.release").read_text().strip()
    boot = entry / "boot"
    boot.mkdir(parents=True)
    bzimage = boot / f"vmlinuz-{release}"
    for source, target in ((BZIMAGE, bzimage.name), (".config", f"config-{release}"), ("System.map", "System.map")):
        shutil.copyfile(tree / source, boot / target)
    artifact.prepare(bzimage, entry)
    if (tree / "modules.order").is_file() and (tree / "modules.order").read_text().strip():
        make.install_modules(tree, entry, log)
        for link in ("build", "source"):
            (modules.folder(entry, release) / link).unlink(missing_ok=True)
        modules.depmod(entry, release)
    return release


def _load(recipe: Recipe, entry: Path) -> Kernel:
    release = json.loads((entry / "kernel.json").read_text())["release"]
    spec = recipe.spec
    provenance = {
        **recipe.origin.facts,
        "patches": ", ".join(path.name for path in spec.patches),
        "preset": spec.preset.value,
        "fragments": ", ".join(path.name for path in spec.fragments),
        "tree": recipe.tree,
        "tools": recipe.tools,
        # The vmlinux with debugging information lies in the tree until the next state of the source is built there.
        "path": str(recipe.folder / "linux" / BZIMAGE),
    }
    return artifact.kernel(
        spec,
        artifact.prepared(entry, entry.name, compressed=entry / "boot" / f"vmlinuz-{release}"),
        modules_root=entry if modules.folder(entry, release).is_dir() else None,
        config=entry / "boot" / f"config-{release}",
        provenance={key: value for key, value in provenance.items() if value},
        digest=entry.name,
    )


def _check(fragments: Sequence[Path]) -> None:
    for path in fragments:
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if line.strip() and not line.startswith("#") and not _SYMBOL.fullmatch(line):
                raise UsageError(
                    f"{path}:{number}: this is not a line of a configuration",
                    hint="CONFIG_NAME=value, or # CONFIG_NAME is not set; a comment has a line of its own",
                )


def _wanted(fragments: Sequence[Path]) -> dict[str, str]:
    """Return the requested value of each symbol, "n" for off; the last line about a symbol counts."""
    wanted = {}
    for path in fragments:
        for line in path.read_text(errors="replace").splitlines():
            if match := _SYMBOL.fullmatch(line):
                on, value, off = match.groups()
                wanted[(on or off).removeprefix("CONFIG_")] = value.strip('"') if on else "n"
    return wanted


def _virtme() -> str:
    try:
        return version("virtme-ng")
    except PackageNotFoundError as error:
        raise HostError("virtme-ng is not installed", hint="pip install virtme-ng") from error


def _minutes(begin: float) -> str:
    seconds = int(time.monotonic() - begin)
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
