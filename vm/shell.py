# SPDX-License-Identifier: GPL-2.0-only
"""Interactive access to a guest: a shell on the terminal, gdb on the kernel."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from common.errors import UsageError
from kernels import symbols
from kernels.kernel import Kernel
from vm.death import DeadMachineError
from vm.machine import Machine
from vm.rootfs import PYTHON

TOOLS = ("busybox", "bash", "sh", "ls", "cat", "grep", "ps", "dmesg", "mount", "ip", "ss", "strace", "bpftool")
"""Programs copied from this host into a guest for a shell, with their libraries, if the host has them."""

CASE = "/run/conform-case"
"""A file in the guest that lists the sockets and maps of the case; an interactive shell prints it first."""

_LONGEST = 100_000
"""Bytes of a script at most: execve(2) takes 128 KiB for one argument."""

LIBRARY = re.compile(r"(?:=> |^\s+)(/\S+) \(0x", re.MULTILINE)


def interact(machine: Machine, name: str, keys: int, screen: int, words: Sequence[str] = ()) -> int:
    """Run a command, or a shell, in the guest on the terminal `keys` and `screen`.

    Returns its status, or 1 if the guest died. If `keys` is not a terminal, its content is read to the end,
    and a shell runs it as a script.
    """
    for path in _programs():
        machine.place(os.fspath(path), path.read_bytes())
    if not words and not os.isatty(keys):
        words = _script(keys)
        keys = -1
    command = _command(words, newlines=os.isatty(screen))
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "TERM": os.environ.get("TERM", "dumb"),
        "PS1": f"{name} # ",
    }
    with _raw(keys):
        try:
            return machine.shell(command, environment, _size(screen), keys, screen)
        except DeadMachineError as death:
            last = f"\r\n{death.console}\r\n{death.sentence}\r\n"
            os.write(screen, re.sub(r"\r*\n", "\r\n", last).encode())
            return 1


@contextlib.contextmanager
def debugged(machine: Machine, kernel: Kernel, say: Callable[[str], None]) -> Iterator[None]:
    """Stop the guest's kernel for gdb, and print the command that starts gdb; gdb's `continue` lets the kernel run."""
    with tempfile.TemporaryDirectory(prefix="conform-gdb-") as folder:
        path = Path(folder, "socket")
        machine.debug(path)
        say("the kernel is stopped; in another terminal:")
        say("  " + gdb_command(kernel, path))
        say("`continue` in gdb lets it run")
        yield


def gdb_command(kernel: Kernel, path: Path) -> str:
    """Return the command that debugs the kernel at a socket.

    A vmlinux boots at its own addresses (PVH skips the decompressor, which would randomize them); a bzImage does
    only with `nokaslr` on its command line.
    """
    image = symbols.debug_image(kernel) or kernel.image
    return shlex.join(["gdb", os.fspath(image or ""), "-ex", f"target remote {path}"])


def _programs() -> list[Path]:
    """Return the tools this host has, and their libraries."""
    tools = [Path(found) for found in map(shutil.which, TOOLS) if found is not None]
    listing = subprocess.run(["ldd", *tools], capture_output=True, text=True, check=False).stdout
    return [*tools, *(Path(each) for each in dict.fromkeys(LIBRARY.findall(listing)))]


def _script(keys: int) -> list[str]:
    """Return a shell that runs the content of a file or pipe; UsageError if it is too long."""
    with open(keys, "rb", closefd=False) as file:
        script = file.read(_LONGEST + 1)
    if len(script) > _LONGEST:
        raise UsageError(
            f"the script for the guest is longer than {_LONGEST} bytes", hint="start the shell at a terminal"
        )
    return [_shell() or "sh", "-c", os.fsdecode(script.replace(b"\0", b""))]


def _shell() -> str | None:
    return next(filter(None, map(shutil.which, ("bash", "sh"))), None)


def _command(words: Sequence[str], *, newlines: bool) -> list[str]:
    """Return the command to run, by default a shell, with busybox's applets in PATH if the host has busybox.

    With `newlines` the guest's terminal ends lines with a carriage return, as a terminal needs it; a file does not.
    """
    busybox, shell = shutil.which("busybox"), _shell()
    if busybox is None:
        return list(words) or ([shell, "-i"] if shell is not None else [os.fspath(PYTHON)])
    script = f"{busybox} mkdir -p /bin; {busybox} --install -s /bin 2>/dev/null; "
    script += "" if newlines else f"{busybox} stty -onlcr; "
    if not words:
        script += f"test -f {CASE} && {busybox} cat {CASE}; "
    return [busybox, "sh", "-c", f'{script}exec "$@"', "sh", *(words or [shell or "sh", "-i"])]


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Put a terminal into raw mode, so that every key is passed on."""
    if not os.isatty(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _size(terminal: int) -> list[int]:
    try:
        columns, lines = os.get_terminal_size(terminal)
    except OSError:
        columns, lines = 80, 24
    return [lines, columns]
