# SPDX-License-Identifier: GPL-2.0-only
"""`./conform doctor`: what is installed, what is missing, how to fix it.

Runs under Debian's own Python when nothing else is there yet, installs nothing, and boots at most a probe.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from common import cache, foreign
from common.errors import ConformError, ExitCode
from common.program import here, program
from common.say import put, say
from conformance.host.environment import RUN, Environment
from conformance.host.packages import BUILDING, PACKAGES
from conformance.report.style import Style

ROOT = Path(__file__).parents[2]
_MEBI = 1 << 20
_WIDTH = 80
_INDENT = 26


class CheckState(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"
    """A run works without it, at least for some kernels."""
    MISSING = "MISSING"
    """No run works without it."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the table."""

    name: str
    state: CheckState
    text: str
    fix: str = ""


_TOOLS = {
    # The argument that prints a program's version, and the oldest version known to work.
    "qemu-system-x86": ("qemu-system-x86_64", (7, 2)),
    "clang": ("clang", (14,)),
}


def doctor(options: argparse.Namespace) -> int:
    """Print the table; returns 0 if a run can work and 128 if not."""
    if options.json:
        found = list(examine())
        say(json.dumps([_object(finding) for finding in found]))
        return int(ExitCode.BROKEN if any(each.state is CheckState.MISSING for each in found) else ExitCode.OK)
    colour = Style.of(sys.stdout).colour
    wrong = []
    for finding in examine():
        put(render(finding, colour=colour).splitlines(), sys.stdout)
        if finding.state is CheckState.MISSING:
            wrong.append(finding.name)
    say("")
    if wrong:
        put(textwrap.wrap(f"A run cannot work yet: {', '.join(wrong)}.", _WIDTH), sys.stdout)
        say(f"`{program()} run` installs packages and makes the environment by itself.")
        return int(ExitCode.BROKEN)
    say("A run can work.")
    return int(ExitCode.OK)


def _object(finding: CheckResult) -> dict[str, str]:
    return {"name": finding.name, "state": finding.state.lower(), "text": finding.text, "fix": finding.fix}


def examine() -> Iterator[CheckResult]:
    """Check everything that a run needs, in the order of use."""
    examinations: tuple[Callable[[], Iterator[CheckResult]], ...] = (
        _processors,
        _memory,
        _python,
        _packages,
        _environment,
        _cache,
        _archive,
        _kvm,
        _accelerator,
    )
    for examination in examinations:
        yield from examination()


def render(finding: CheckResult, *, colour: bool) -> str:
    """Return the finding as lines of at most 80 columns."""
    state = f"{finding.state:<7}"
    if colour:
        state = (
            f"\033[{ {CheckState.OK: 32, CheckState.NOTE: 33, CheckState.MISSING: 31}[finding.state] }m{state}\033[0m"
        )
    margin = " " * _INDENT
    text = _fold(foreign.line(finding.text), margin)
    lines = [f"{finding.name:<{_INDENT - 9}} {state} {text}"]
    if finding.fix:
        lines.append(f"{margin}{_fold('to fix: ' + foreign.line(here(finding.fix)), margin + '  ')}")
    return "\n".join(lines)


def _fold(text: str, margin: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=" " * _INDENT,
        subsequent_indent=margin,
        break_on_hyphens=False,
        break_long_words=False,
    ).lstrip()


def _processors() -> Iterator[CheckResult]:
    count = len(os.sched_getaffinity(0))
    yield CheckResult("processors", CheckState.OK, f"{count}, so up to {count} machines at once")


def _memory() -> Iterator[CheckResult]:
    fields = dict(re.findall(r"^(\w+):\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE))
    available, total = int(fields["MemAvailable"]) // 1024, int(fields["MemTotal"]) // 1024
    enough = available >= 1024
    yield CheckResult(
        "memory",
        CheckState.OK if enough else CheckState.NOTE,
        f"{available} of {total} MiB available",
        "" if enough else "a run takes up to 1024 MiB a worker: use -n 1, or stop a program that uses much memory",
    )


def _python() -> Iterator[CheckResult]:
    # launch() has refused anything older than 3.11.
    yield CheckResult("python", CheckState.OK, f"{sys.version.split()[0]}, {sys.executable}")


def _packages() -> Iterator[CheckResult]:
    for package in PACKAGES:
        path = package.found()
        if not path:
            yield CheckResult(package.name, CheckState.MISSING, package.reason, f"apt-get install {package.name}")
        elif package.name in _TOOLS:
            yield _tool(package.name, path)
        else:
            yield CheckResult(package.name, CheckState.OK, path)
    lacking = [package.name for package in BUILDING if not package.found()]
    yield CheckResult(
        "to build kernels",
        CheckState.NOTE if lacking else CheckState.OK,
        f"source: and tree: need packages that are not installed: {', '.join(lacking)}"
        if lacking
        else "all packages that source: and tree: need",
        f"apt-get install {' '.join(lacking)}" if lacking else "",
    )


def _tool(name: str, path: str) -> CheckResult:
    _, oldest = _TOOLS[name]
    needed = ".".join(str(part) for part in oldest)
    version = _version(path)
    if version is None:
        return CheckResult(name, CheckState.MISSING, f"{path} does not run", f"apt-get install --reinstall {name}")
    if tuple(int(part) for part in version.split(".")) < oldest:
        return CheckResult(name, CheckState.MISSING, f"{version} at {path} is too old", f"install {needed} or newer")
    return CheckResult(name, CheckState.OK, f"{version}, {path}")


def _version(program: str) -> str | None:
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"version (\d+(?:\.\d+)+)", answer.stdout)
    return match[1] if match else None


def _environment() -> Iterator[CheckResult]:
    environment = Environment(str(ROOT))
    if environment.stale("run"):
        state = "is out of date" if os.path.exists(environment.stamp(RUN)) else "is not made yet"
        yield CheckResult("environment", CheckState.MISSING, f"{environment.folder} {state}", "./conform run makes it")
        return
    yield CheckResult("environment", CheckState.OK, f"{environment.folder}, matches {RUN}")
    found = sorted(Path(environment.folder).glob("lib/python*/site-packages/virtme_ng-*.dist-info"))
    version = found[-1].name.removeprefix("virtme_ng-").removesuffix(".dist-info") if found else ""
    if version:
        yield CheckResult("virtme-ng", CheckState.OK, version)
    else:
        yield CheckResult(
            "virtme-ng", CheckState.MISSING, "not in the environment", f"rm -r {environment.folder}; ./conform run"
        )


def _cache() -> Iterator[CheckResult]:
    folder = cache.root()
    fix = "set XDG_CACHE_HOME to a directory with space that you may write"
    try:
        with cache.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".doctor-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
    except ConformError as error:
        yield CheckResult("cache", CheckState.MISSING, str(error), error.hint)
        return
    free = shutil.disk_usage(folder).free // _MEBI
    if free < 512:
        yield CheckResult("cache", CheckState.MISSING, f"{folder} has only {free} MiB of free space", fix)
    elif free < 4096:
        yield CheckResult("cache", CheckState.NOTE, f"{folder}, {free} MiB free: room for a kernel or two", fix)
    else:
        yield CheckResult("cache", CheckState.OK, f"{folder}, {free // 1024} GiB free")


def _archive() -> Iterator[CheckResult]:
    from kernels.apt import archives

    try:
        found = archives(Path("/etc/apt"))
    except ConformError as error:
        yield CheckResult("archive", CheckState.NOTE, str(error), error.hint)
        return
    # A private archive may carry a password in its URI.
    uris = dict.fromkeys(re.sub(r"//[^/@]*@", "//", archive.uri) for archive in found)
    yield CheckResult("archive", CheckState.OK, f"from apt's sources: {', '.join(uris)}")


def _kvm() -> Iterator[CheckResult]:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        yield CheckResult("/dev/kvm", CheckState.NOTE, "absent: machines are emulated, about ten times slower")
    except PermissionError:
        fix = "add yourself to the group kvm and log in again"
        yield CheckResult("/dev/kvm", CheckState.NOTE, "you may not open it: machines are emulated", fix)
    except OSError as error:
        yield CheckResult("/dev/kvm", CheckState.NOTE, f"does not open ({error.strerror}): machines are emulated")
    else:
        yield CheckResult("/dev/kvm", CheckState.OK, "can be opened; see `accelerator` for whether it works")


def _accelerator() -> Iterator[CheckResult]:
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None or Environment(str(ROOT)).stale("run"):
        yield CheckResult("accelerator", CheckState.NOTE, "not tried: see what is missing above")
        return
    # These import packages of the virtual environment.
    from kernels.inventory import cached
    from kernels.resolve import resolve
    from vm.accel import choose

    kernels = cached()
    if not kernels:
        yield CheckResult(
            "accelerator", CheckState.NOTE, "not tried: no kernel is cached that could be booted", "./conform run"
        )
        return
    try:
        choice = choose("auto", resolve(str(kernels[0].path)), Path(qemu))
    except ConformError as error:
        yield CheckResult("accelerator", CheckState.NOTE, f"not tried: {error}", error.hint)
    else:
        yield CheckResult("accelerator", CheckState.OK, choice.why)
