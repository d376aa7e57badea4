# SPDX-License-Identifier: GPL-2.0-only
"""Compile the BPF programs on the host and turn them into a Python module for the guest."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache as once
from pathlib import Path

from bpf import object as bpf_object
from common import cache
from common.errors import HostError

SOURCES = Path(__file__).parent / "programs"
"""Every `*.bpf.c` in here becomes the program of that name; a test may name another folder."""
MODULE = "bpf.guest.programs"
"""The name of the generated module in the guest."""

_SUFFIX = ".bpf.c"


def build(sources: Path = SOURCES) -> dict[str, Path]:
    """Return the object file of each program, compiled unless the cache has it.

    An entry of the cache is named by the content of all files in `sources`, by the flags and by the compiler.
    HostError if there is no compiler or it refuses a source.
    """
    entry = cache.publish(_entry(sources), lambda temporary: _compile_all(sources, temporary))
    return {name: entry / f"{name}.o" for name in _names(sources)}


def programs_module(sources: Path = SOURCES) -> str:
    """Return the source of the module `bpf.guest.programs`, which holds all programs; built if need be."""
    build(sources)
    return (_entry(sources) / "programs.py").read_text()


def object_hashes(sources: Path = SOURCES) -> dict[str, str]:
    """Return the SHA-256 of each object file, for provenance; built if need be."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in build(sources).items()}


def _names(sources: Path) -> list[str]:
    return sorted(path.name.removesuffix(_SUFFIX) for path in sources.glob(f"*{_SUFFIX}"))


def _entry(sources: Path) -> Path:
    digest = hashlib.sha256()
    digest.update(repr((_compiler_identity(), _flags())).encode())
    readers = [Path(__file__), Path(bpf_object.__file__)]
    headers_and_programs = sorted([*sources.glob("*.[ch]"), *SOURCES.glob("*.h")])
    for path in [*readers, *headers_and_programs]:
        digest.update(repr((path.name, path.read_bytes())).encode())
    return cache.root() / "bpf" / digest.hexdigest()[:32]


@once
def _compiler() -> Path:
    found = shutil.which("clang")
    if found is None:
        raise HostError("clang, which compiles the BPF programs, is not installed", hint="apt-get install clang")
    return Path(found)


def _compiler_identity() -> tuple[str, int, int]:
    # Running `clang --version` costs 30 ms on every start; another version is another file.
    binary = _compiler().resolve()
    status = binary.stat()
    return str(binary), status.st_size, status.st_mtime_ns


def _flags() -> Sequence[str]:
    # fmt: off
    return (
        "-target", "bpf",
        "-O2",
        "-Wall", "-Wextra", "-Werror",
        "-I", str(SOURCES),
        # asm/types.h lives here on Debian, and -target bpf does not look for it.
        "-idirafter", f"/usr/include/{platform.machine()}-linux-gnu",
    )
    # fmt: on


def _compile_all(sources: Path, directory: Path) -> None:
    directory.mkdir()
    programs = {}
    for name in _names(sources):
        target = directory / f"{name}.o"
        _compile(sources / f"{name}{_SUFFIX}", target)
        programs[name] = bpf_object.read(target)
    (directory / "programs.py").write_text(_module(programs))


def _compile(source: Path, target: Path) -> None:
    # fmt: off
    command = [
        str(_compiler()),
        *_flags(),
        "-c", str(source),
        "-o", str(target),
    ]
    # fmt: on
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        message = next((line for line in result.stderr.splitlines() if "error:" in line), result.stderr.strip())
        header = "'linux/" in message or "'asm/" in message
        raise HostError(
            f"clang cannot compile {source.name}: {message.removeprefix(f'{source.parent}/')}",
            hint="apt-get install linux-libc-dev" if header else "fix the source; clang 14 or newer is needed",
        )


def _module(programs: dict[str, bpf_object.CompiledProgram]) -> str:
    """Write plain literals, because the guest's time goes into parsing the module at import."""
    lines = ["# Made by bpf/build.py.", "PROGRAMS = {"]
    for name, program in programs.items():
        fields = {
            **asdict(program),
            "maps": {label: tuple(asdict(definition).values()) for label, definition in program.maps.items()},
        }
        lines.append(f"    {name!r}: {fields!r},")
    return "\n".join([*lines, "}", ""])
