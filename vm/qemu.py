# SPDX-License-Identifier: GPL-2.0-only
"""One QEMU process: it owns no file, and it cannot outlive us."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import HostError
from vm.guest.agent import PORT

IGNORE_SHARED = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
"""RAM that is a shared file stays where it is; the state is only the devices, some 400 KiB."""


def mortal(command: list[str]) -> list[str]:
    """Wrap a command so that the kernel kills it with us, even if we are killed before it has started.

    "With us" is the calling thread (prctl(2), PR_SET_PDEATHSIG): call from one that lives as long as the machine.
    """
    # fmt: off
    return [
        "setpriv", "--pdeathsig", "KILL",
        "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid()),
        *command,
    ]
    # fmt: on


class QmpError(Exception):
    """QEMU refused a command, or is gone."""


class Qemu:
    """A running machine: control socket, monitor, serial console in memory."""

    def __init__(self, command: Sequence[str], *, passed: Sequence[int] = (), state: int | None = None) -> None:
        """Start it, with the descriptors `passed`; with `state` it comes up as the guest that was saved there."""
        self.serial = os.memfd_create("serial")
        self._stderr = os.memfd_create("stderr")
        self.control, guest_end = socket.socketpair()
        self._monitor, monitor_end = socket.socketpair()
        self._buffer = b""
        inherited = [guest_end.fileno(), monitor_end.fileno(), self.serial, *passed]
        # fmt: off
        extra = [
            "-chardev", f"file,id=serial,path=/proc/self/fd/{self.serial}",
            "-serial", "chardev:serial",
            "-chardev", f"socket,id=qmp,fd={monitor_end.fileno()}",
            "-mon", "chardev=qmp,mode=control",
            "-chardev", f"socket,id=ctl,fd={guest_end.fileno()}",
            "-device", f"virtserialport,chardev=ctl,name={PORT}",
        ]
        # fmt: on
        if state is not None:
            inherited.append(state)
            extra += ["-incoming", "defer"]
        try:
            self.process = subprocess.Popen(
                mortal([*command, *extra]),
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=inherited,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise HostError(f"{error.filename} is not installed", hint="apt install util-linux") from error
        finally:
            guest_end.close()
            monitor_end.close()
        self.exited = os.pidfd_open(self.process.pid)
        self._post("qmp_capabilities")
        self._post("migrate-set-capabilities", IGNORE_SHARED)
        if state is not None:
            # Since 9.1 QEMU prefers `file:` for this and says so on stderr; 7.2 has no `file:` yet.
            self._post("migrate-incoming", {"uri": f"fd:{state}"})

    def console(self) -> str:
        """Return all the guest has printed."""
        return content(self.serial)

    def complaint(self) -> str:
        """Return QEMU's own last message."""
        return (content(self._stderr).strip().splitlines() or ["no message"])[-1]

    def save(self, state: Path, deadline: float = 30.0) -> None:
        """Stop the guest and write its state; its RAM is in the file already. QmpError if that fails.

        Without a `stop` before: a state that says `running` starts by itself when it is restored.
        """
        self._await_return(2)
        descriptor = os.open(state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            message = {"execute": "getfd", "arguments": {"fdname": "state"}}
            socket.send_fds(self._monitor, [json.dumps(message).encode()], [descriptor])
        finally:
            os.close(descriptor)
        self._await_return()
        self._post("migrate", {"uri": "fd:state"})
        self._await_return()
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            self._post("query-migrate")
            status = self._await_return().get("status")
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise QmpError("QEMU could not save the guest")
            time.sleep(0.002)
        raise QmpError("QEMU did not save the guest in time")

    def close(self) -> None:
        """Kill it and let go of everything; may be called twice."""
        if self.exited < 0:
            return
        self.process.kill()
        self.process.wait()
        for descriptor in (self.exited, self.serial, self._stderr):
            os.close(descriptor)
        self.exited = -1
        self.control.close()
        self._monitor.close()

    def _post(self, execute: str, arguments: Mapping[str, Any] | None = None) -> None:
        message = {"execute": execute, "arguments": arguments or {}}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its exit is noticed by whoever waits
            self._monitor.sendall(json.dumps(message).encode())

    def _await_return(self, count: int = 1) -> dict[str, Any]:
        """Take `count` answers from the monitor and give back the last."""
        self._monitor.settimeout(30.0)
        value: dict[str, Any] = {}
        while count:
            line, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                try:
                    chunk = self._monitor.recv(65536)
                except OSError as error:
                    raise QmpError(f"the monitor does not answer: {error}") from error
                if not chunk:
                    raise QmpError(f"QEMU is gone: {self.complaint()}")
                self._buffer += chunk
                continue
            self._buffer = rest
            message = json.loads(line)
            if "error" in message:
                raise QmpError(message["error"]["desc"])
            if "return" in message:
                value = dict(message["return"])
                count -= 1
        return value


def content(descriptor: int) -> str:
    """Return what a file in memory holds."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")
