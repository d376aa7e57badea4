# SPDX-License-Identifier: GPL-2.0-only
"""From `function+0x1a/0x90` to file and line, by binutils, if the kernel's debugging information is available.

Like the kernel's scripts/decode_stacktrace.sh, but the original text stays. Neither the text, which a guest wrote, nor
the file, which somebody built, is trusted: what cannot be looked up stays as it is.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from common.errors import KernelError
from kernels import vmlinux
from kernels.kernel import Kernel

DEBUG_IMAGES = ("/usr/lib/debug/boot/vmlinux-{}", "/usr/lib/debug/lib/modules/{}/vmlinux")
"""Where distributions put a vmlinux with debugging information."""

_PLACE = re.compile(r"(?<![\w.$])([A-Za-z_.$][\w.$]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[([\w-]+)[^\]]*\])?")
_RETURN = re.compile(r"(?:\[ *\d+\.\d+\] ?)?\s*(?:\? )?$")
"""The prefix of a line of a stack, where the address is that of the instruction after the call."""

TOOL_SECONDS = 60.0
"""For one run of nm or addr2line; the debugging information of a whole kernel takes some seconds."""

_SYMBOL = re.compile(
    r"(?P<name>[^|\s]+)\s*\|(?P<address>[0-9a-f]+)\|\s*\S\s*\|\s*(?P<kind>\w+)\|(?P<size>[0-9a-f]*)\s*\|\s*\|(?P<section>\.\S+)"
)
"""A line of nm's about a symbol that has a place."""

_Place = tuple[str, int, int]
"""Function, offset and size."""


def debug_image(kernel: Kernel) -> Path | None:
    """Return the vmlinux with debugging information of exactly this build, if there is one; else None."""
    path = kernel.provenance.get("path", "")
    beside = [parent / "vmlinux" for parent in Path(path).parents] if path else []
    distribution = [Path(place.format(kernel.release)) for place in DEBUG_IMAGES]
    for candidate in filter(None, (kernel.image, *beside, *distribution)):
        if candidate.is_file() and _has_lines(candidate) and _same(candidate, kernel.image):
            return candidate
    return None


def decode(text: str, image: Path, modules: Path | None = None) -> str:
    """Add file and line to every place in the kernel that a text names; what cannot be found stays as it was."""
    if not all(map(shutil.which, ("nm", "addr2line"))):
        return text
    found: dict[str, set[_Place]] = {}
    for line in text.split("\n"):
        for match in _PLACE.finditer(line):
            found.setdefault(match[4] or "", set()).add(_place(line, match))
    root = f"{image.parent}/"
    lines = {name: _looked_up(_object(name, image, modules), places, root) for name, places in found.items()}

    def decoded(line: str) -> str:
        def explained(match: re.Match[str]) -> str:
            where = lines[match[4] or ""].get(_place(line, match))
            return f"{match[0]} ({where})" if where else match[0]

        return _PLACE.sub(explained, line)

    return "\n".join(map(decoded, text.split("\n")))


def decode_each(texts: Sequence[str], image: Path, modules: Path | None = None) -> list[str]:
    """Decode several texts at the cost of one."""
    lines = decode("\n".join(texts), image, modules).split("\n")
    counts = [text.count("\n") + 1 for text in texts]
    ends = list(itertools.accumulate(counts))
    return ["\n".join(lines[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def _place(line: str, match: re.Match[str]) -> _Place:
    offset = int(match[2], 16)
    returns = _RETURN.match(line[: match.start()]) is not None and offset > 0
    return match[1], offset - returns, int(match[3], 16)


def _object(module: str, image: Path, modules: Path | None) -> Path | None:
    """Return the file that has the symbols of a module, or of the kernel itself."""
    if not module:
        return image
    name = re.sub("[_-]", "[_-]", module)
    return next(modules.rglob(f"{name}.ko"), None) if modules is not None else None


def _looked_up(path: Path | None, places: Iterable[_Place], root: str) -> dict[_Place, str]:
    """Return file, without `root`, and line of those places that are in the file."""
    wanted: dict[str, dict[_Place, int]] = {}
    functions = _functions(path) if path is not None else {}
    for name, offset, size in places:
        for section, start in functions.get((name, size), ()):
            wanted.setdefault(section, {})[name, offset, size] = start + offset
    lines: dict[_Place, str] = {}
    for section, addresses in wanted.items():
        assert path is not None
        found = list(_lines(path, section, addresses.values()))
        if len(found) == len(addresses):  # else a name in the file has line feeds, or addr2line gave up
            lines |= dict(zip(addresses, found, strict=True))
    return {place: line.removeprefix(root).removeprefix("./") for place, line in lines.items() if line}


@cache
def _functions(path: Path) -> Mapping[tuple[str, int], list[tuple[str, int]]]:
    """Return section and address of every function, by name and size: several functions may share a name.

    A kernel takes for the size what is between a function's start and the next symbol, padding included (kallsyms.c,
    get_symbol_pos()); so it is found by that, and by the size it has in the file.
    """
    listing = _said(["nm", "--format=sysv", os.fspath(path)])
    defined = [match for line in listing.split("\n") if (match := _SYMBOL.fullmatch(line.rstrip())) is not None]
    starts = sorted({(each["section"], int(each["address"], 16)) for each in defined})
    following = dict(itertools.pairwise(starts))
    found: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for each in defined:
        place = each["section"], int(each["address"], 16)
        if each["kind"] == "FUNC" and each["size"]:
            after = following.get(place, place)
            sizes = {int(each["size"], 16), *([after[1] - place[1]] if after[0] == place[0] else [])}
            for size in sizes:
                found.setdefault((each["name"], size), set()).add(place)
    return {key: list(places) for key, places in found.items() if len(places) == 1}


def _lines(path: Path, section: str, addresses: Iterable[int]) -> Iterator[str]:
    """Yield file and line of each address, of the innermost function that is inlined there; "" if unknown."""
    # fmt: off
    command = [
        "addr2line",
        "--exe", os.fspath(path),
        *(["--section", section] if path.suffix == ".ko" else []),
        *(f"{address:#x}" for address in addresses),
    ]
    # fmt: on
    for line in _said(command).splitlines():
        where = line.partition(" (")[0]
        yield "" if where.startswith("??") or where.endswith((":?", ":0")) else where


def _said(command: list[str]) -> str:
    """Return a tool's output; nothing if it takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=TOOL_SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode("utf-8", "replace")


def _has_lines(path: Path) -> bool:
    from elftools.elf.elffile import ELFFile  # costs every run its time, and only a splat comes here

    try:
        with path.open("rb") as file:
            return ELFFile(file).get_section_by_name(".debug_line") is not None
    except Exception:  # of a damaged file, whatever the library stumbles over
        return False


def _same(candidate: Path, image: Path | None) -> bool:
    """Return whether two files have the same build id."""
    try:
        return candidate == image or (
            image is not None and vmlinux.build_id(candidate) == vmlinux.build_id(image) != ""
        )
    except KernelError:
        return False
