# SPDX-License-Identifier: GPL-2.0-only
"""Run a program on its own terminal; the control channel carries its input and output."""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import termios
from typing import Any

from vm.guest.frames import CHUNK, Channel

PTS = "/dev/pts"


def place(files: dict[str, str]) -> None:
    """Write programs and their libraries (path to base64) into the guest, unless it has such a file."""
    for path, content in files.items():
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o755)) as file:
                file.write(binascii.a2b_base64(content))


def relay(channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    """Run `command` on a terminal until it ends; frames with `keys` go in, frames with `screen` come out."""
    if not os.path.exists(f"{PTS}/ptmx"):
        os.makedirs(PTS, exist_ok=True)
        ctypes.CDLL(None).mount(b"devpts", PTS.encode(), b"devpts", 0, b"mode=620,ptmxmode=666")
    pid, terminal = os.forkpty()
    if not pid:
        _become(request["command"], request["environment"])
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *request["size"], 0, 0))
        _carry(channel, terminal, request["id"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
        os.close(terminal)
    return {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


def _become(command: list[str], environment: dict[str, str]) -> None:
    try:
        for number in (signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.chdir("/root")
        os.execve(command[0], command, environment)
    finally:
        os._exit(127)


def _carry(channel: Channel, terminal: int, number: int) -> None:
    poll = select.poll()
    poll.register(channel.reader, select.POLLIN)
    poll.register(terminal, select.POLLIN)
    message = channel.buffered()
    while True:
        while message is not None:
            os.write(terminal, binascii.a2b_base64(message.get("keys", "")))
            message = channel.buffered()
        ready = {descriptor for descriptor, _ in poll.poll()}
        if terminal in ready:
            try:
                output = os.read(terminal, CHUNK)
            except OSError:  # EIO: no process has the terminal open any more
                return
            channel.send({"id": number, "screen": binascii.b2a_base64(output, newline=False).decode()})
        if channel.reader in ready:
            message = channel.receive()
            if message is None:
                return
