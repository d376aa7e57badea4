# SPDX-License-Identifier: GPL-2.0-only
"""Run make in a kernel tree: keep the log, report progress, and return the first error in one sentence.

`vng --build` is not used: it leaves make running when it is killed, and would take the user's own configuration file
(`~/.config/virtme-ng/kernel.config`) into a kernel that is cached by content. `vng --kconfig`, which has what virtme-ng
knows, is used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import foreign
from common.errors import HostError, KernelError
from kernels.toolchain import PACKAGES

RELEASE_SUFFIX = "-conform"
_ENVIRONMENT = {
    "LC_ALL": "C",
    # The same source makes the same kernel. Files that record time and place of a build are not compiled each time.
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "conform",
    "KBUILD_BUILD_HOST": "conform",
    "KBUILD_BUILD_VERSION": "1",
}
_INHERITED = ("PATH", "HOME", "TMPDIR")
"""Nothing else: a dozen variables change what make builds, and the cache would not know."""
# Sent to make when this process dies; make passes it on.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM")
_REPORT_SECONDS = 30.0
"""Seconds."""
_STEP = re.compile(r"  (?:CC|AS|LD|AR|HOSTCC)(?: \[M\])? +(?P<path>\S+)")
_ERRORS = (
    re.compile(r"^\S+?:\d+(?::\d+)?: (?:fatal )?error: .*"),
    re.compile(r"^.*(?:undefined reference to |No rule to make target |multiple definition of ).*"),
    re.compile(r"^(?:ERROR|error|FAILED|BTF|ld|/usr/bin/ld): .*"),
    re.compile(r"^.*(?:not found|\berror: |Error: ).*"),
    re.compile(r"^make.*\*\*\* .*"),
)


def check_tools() -> None:
    """Raise HostError naming every package that building takes and this machine lacks."""
    missing = [name for name, _, proof in PACKAGES if not (os.path.exists(proof) or shutil.which(proof))]
    if missing:
        raise HostError(
            f"building a kernel needs packages that are not installed: {', '.join(missing)}",
            hint=f"apt-get install {' '.join(missing)}",
        )


def compiler() -> str:
    """Return the versions of compiler, linker and pahole."""
    tools = (("gcc", "--version"), ("ld", "--version"), ("pahole", "--version"))
    answers = (subprocess.run(tool, capture_output=True, text=True, check=False).stdout for tool in tools)
    return "; ".join(answer.partition("\n")[0] for answer in answers)


def configure(tree: Path, fragments: Sequence[Path], log: Path) -> None:
    """Write a .config: virtme-ng's configuration for guests, overridden by the fragments."""
    file = tree / ".config"
    before = (file.read_bytes(), file.stat()) if file.is_file() else None
    # fmt: off
    command = [
        os.fspath(Path(sys.executable).with_name("vng")),
        "--kconfig",
        "--verbose",
        *(word for path in fragments for word in ("--config", os.fspath(path))),
    ]
    # fmt: on
    if not Path(command[0]).exists():
        raise HostError("virtme-ng is not installed", hint="pip install virtme-ng")
    # It finds its helpers in PATH, and the user's defaults for guests below HOME.
    path = os.pathsep.join([os.path.dirname(command[0]), os.environ.get("PATH", os.defpath)])
    run(command, tree, log, lambda _: None, environment={"PATH": path, "HOME": os.fspath(tree)})
    if before is not None and file.read_bytes() == before[0]:
        # Unchanged, so that make compiles nothing again.
        os.utime(file, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))


def build(tree: Path, log: Path, tell: Callable[[str], None]) -> None:
    """Build image and modules."""
    # fmt: off
    command = [
        "make",
        "-j", str(len(os.sched_getaffinity(0))),
        f"LOCALVERSION={RELEASE_SUFFIX}",
    ]
    # fmt: on
    run(command, tree, log, tell)


def install_modules(tree: Path, root: Path, log: Path) -> None:
    """Install the modules below `root`, without debugging information."""
    # fmt: off
    command = [
        "make", "modules_install",
        f"LOCALVERSION={RELEASE_SUFFIX}",
        f"INSTALL_MOD_PATH={root}",
        "INSTALL_MOD_STRIP=1",
    ]
    # fmt: on
    run(command, tree, log, lambda _: None)


def run(
    command: Sequence[str],
    tree: Path,
    log: Path,
    tell: Callable[[str], None],
    environment: dict[str, str] | None = None,
) -> None:
    """Run a command in a tree, its output appended to the log; KernelError with the first error if it fails."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    steps, reported, output = 0, time.monotonic(), []
    with (
        log.open("a", encoding="utf-8", buffering=1) as file,
        subprocess.Popen(
            [*_DIE_WITH_PARENT, *command],
            cwd=tree,
            env={**inherited, **_ENVIRONMENT, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(foreign.page(line))
                if (step := _STEP.match(line)) is None:
                    output.append(line.rstrip())
                    continue
                steps += 1
                if time.monotonic() - reported > _REPORT_SECONDS:
                    reported = time.monotonic()
                    tell(f"{steps} files so far, now {step['path']}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        _fail(output, log)


def _fail(output: Sequence[str], log: Path) -> None:
    if any("No space left on device" in line for line in output):
        raise HostError(f"no space left to build in {log.parent}", hint="free some, or run `./conform kernels prune`")
    raise KernelError(f"the kernel does not build: {first_error(output)}", hint=f"the log is {log}")


def first_error(output: Sequence[str]) -> str:
    """Return the first error of a build: a compiler's error before a linker's, and any before make's."""
    for pattern in _ERRORS:
        for line in output:
            if pattern.match(line):
                return line.strip()
    return next((line.strip() for line in reversed(output) if line.strip()), "it does not say why")
