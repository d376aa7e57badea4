# SPDX-License-Identifier: GPL-2.0-only
"""One QEMU process: it owns no file, and it cannot outlive this process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import HostError, exhausted
from vm import jail
from vm.guest.agent import PORT
from vm.monitor import Monitor, QmpError
from vm.patience import Waits, major_faults, starvation

IGNORE_SHARED = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
"""RAM in a shared file is not copied; the state has only the devices, some 400 KiB."""

KEEP_THE_DEAD = {"reboot": "shutdown", "shutdown": "pause"}
"""A guest that resets or powers off is paused, so that its memory can be read."""

DIAGNOSIS_SECONDS = 2.0
DUMP_SECONDS = 60.0

SHUTDOWN_REASONS = {
    "guest-reset": "the guest was reset without a panic: a triple fault, or a reboot",
    "guest-shutdown": "the guest was powered off from inside",
    "guest-panic": "the guest told QEMU that it panicked",
    "host-signal": "QEMU was ended by a signal",
    "host-error": "QEMU ended with an error",
}


CRASHES = {signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP}
"""Signals that QEMU causes itself; its guest may be the reason. A full disk makes it SIGBUS."""


def with_parent_death_signal(command: list[str], runner: int = 0) -> list[str]:
    """Wrap a command so that the kernel kills it with us, even if we are killed before it has started.

    "With us" is the calling thread (prctl(2), PR_SET_PDEATHSIG): call from one that lives as long as the machine. The
    command runs as the user `runner`, if that is not 0.
    """
    # fmt: off
    return [
        "setpriv", "--pdeathsig", "KILL", *jail.options(runner),
        "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid()),
        *command,
    ]
    # fmt: on


_running: weakref.WeakSet[Qemu] = weakref.WeakSet()


def end_all() -> None:
    """Kill every QEMU of this process, so that threads that wait for one return; may be called from any thread."""
    for qemu in list(_running):
        qemu.process.kill()


class Qemu:
    """A running machine: control socket, monitor, serial console in memory."""

    def __init__(
        self, command: Sequence[str], *, passed: Sequence[int] = (), state: int | None = None, runner: int = 0
    ) -> None:
        """Start it, with the descriptors `passed`; with `state` it comes up as the guest that was saved there.

        It runs as the user `runner`, if that is not 0.
        """
        self._runner = runner
        self.serial = os.memfd_create("serial")
        self._stderr = os.memfd_create("stderr")
        self.control, guest_end = socket.socketpair()
        connection, monitor_end = socket.socketpair()
        self._monitor = Monitor(connection)
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
        with guest_end, monitor_end:
            self.process = self._started([*command, *extra], inherited)
        _running.add(self)
        self.exited = os.pidfd_open(self.process.pid)
        self._monitor.post("qmp_capabilities")
        self._monitor.post("migrate-set-capabilities", IGNORE_SHARED)
        if state is not None:
            # Since 9.1 QEMU prefers `file:` for this and says so on stderr; 7.2 has no `file:` yet.
            self._monitor.post("migrate-incoming", {"uri": f"fd:{state}"})

    def _started(self, command: list[str], inherited: list[int]) -> subprocess.Popen[bytes]:
        """Start the process; if that fails, close everything and raise HostError."""
        try:
            return subprocess.Popen(
                with_parent_death_signal(command, self._runner),
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                pass_fds=inherited,
                start_new_session=True,
            )
        except OSError as error:
            for descriptor in (self.serial, self._stderr):
                os.close(descriptor)
            self.control.close()
            self._monitor.close()
            raise unstarted("QEMU", error) from error

    def console(self) -> str:
        """Return the console output of the guest."""
        return content(self.serial)

    def printed(self) -> int:
        """Return the number of bytes that guest and QEMU have printed."""
        return os.fstat(self.serial).st_size + os.fstat(self._stderr).st_size

    def failure(self) -> str:
        """Return why QEMU ended, or its last line of output."""
        if reason := SHUTDOWN_REASONS.get(self._monitor.shutdown_reason()):
            return reason
        return self.host_fault() or self._last_line()

    def _last_line(self) -> str:
        return (content(self._stderr).strip().splitlines() or ["no message"])[-1]

    def host_fault(self) -> str:
        """Return what the host did to QEMU (a kill, a stop); empty if nothing."""
        status = self.process.poll()
        if status is not None and status < 0 and -status not in CRASHES:
            return f"QEMU was killed by {signal.Signals(-status).name}"
        if status is not None and status > 0 and not self._monitor.answered:
            return f"QEMU does not start ({self._last_line()})"
        if status is None and _is_stopped(self.process.pid):
            return "QEMU is stopped, by SIGSTOP or a debugger"
        return ""

    def starved(self) -> Waits:
        """Return the seconds for which it has waited for a processor."""
        return starvation(self.process.pid)

    def faults(self) -> int:
        """Return how often it has waited for memory that the host had taken from it."""
        return major_faults(self.process.pid)

    def save(self, state: Path, deadline: float = 30.0) -> None:
        """Stop the guest and write its state; its RAM is in the file already. QmpError if that fails.

        Without a `stop` before: a state that says `running` starts by itself when it is restored.
        """
        with _opened(state) as descriptor:
            self._monitor.execute("getfd", {"fdname": "state"}, descriptors=[descriptor])
        self._monitor.execute("migrate", {"uri": "fd:state"})
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            status = self._monitor.execute("query-migrate").get("status")
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                raise QmpError("QEMU could not save the guest")
            time.sleep(0.002)
        raise QmpError("QEMU did not save the guest in time")

    def keep(self) -> int:
        """From now on keep the memory of a guest that dies; the returned descriptor becomes readable then."""
        self._monitor.post("set-action", KEEP_THE_DEAD)
        return self._monitor.fileno()

    def ended(self) -> bool:
        """Whether the guest has stopped running."""
        return bool(self._monitor.shutdown_reason())

    def diagnose(self) -> None:
        """Make a silent kernel print where it is, by an NMI that makes it panic.

        It works with interrupts off too; see `unknown_nmi_panic` in Documentation/admin-guide/kernel-parameters.txt.
        """
        if _is_stopped(self.process.pid):
            return
        with contextlib.suppress(QmpError):
            self._monitor.execute("inject-nmi", patience=DIAGNOSIS_SECONDS)
            poll = select.poll()
            poll.register(self.exited, select.POLLIN)
            poll.register(self._monitor, select.POLLIN)
            end = time.monotonic() + DIAGNOSIS_SECONDS
            while not self.ended() and (left := end - time.monotonic()) > 0:
                if any(descriptor == self.exited for descriptor, _ in poll.poll(left * 1000)):
                    return

    def dump(self, path: Path) -> None:
        """Write the guest's memory as an ELF core, for crash and drgn; QmpError if that fails.

        The file is as large as the guest's memory; the guest is paused meanwhile.
        """
        try:
            with _opened(path) as descriptor:
                self._monitor.execute("getfd", {"fdname": "core"}, descriptors=[descriptor])
            arguments = {"protocol": "fd:core", "paging": False, "format": "elf"}
            self._monitor.execute("dump-guest-memory", arguments, patience=DUMP_SECONDS)
        except QmpError:
            path.unlink(missing_ok=True)
            raise

    def debug(self, path: Path) -> None:
        """Stop the guest and start a gdb stub on a Unix socket at `path`; QmpError if that fails."""
        self._monitor.execute("stop")
        # QEMU may not write where the user wants the socket, so it is handed a bound one.
        with socket.socket(socket.AF_UNIX) as stub:
            stub.bind(os.fspath(path))
            stub.listen(1)
            self._monitor.execute("getfd", {"fdname": "gdb"}, descriptors=[stub.fileno()])
        address = {"type": "fd", "data": {"str": "gdb"}}
        backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        self._monitor.execute("chardev-add", {"id": "gdb", "backend": backend})
        self._monitor.execute("human-monitor-command", {"command-line": "gdbserver chardev:gdb"})

    def close(self) -> None:
        """Kill it and close everything; may be called twice."""
        if self.exited < 0:
            return
        self.process.kill()
        self.process.wait()
        for descriptor in (self.exited, self.serial, self._stderr):
            os.close(descriptor)
        self.exited = -1
        self.control.close()
        self._monitor.close()


def unstarted(name: str, error: OSError) -> HostError:
    """Return why a program does not start."""
    if isinstance(error, FileNotFoundError):
        return HostError(f"{error.filename} is not installed", hint="apt install util-linux")
    limit = exhausted(error)
    hint = limit.hint if limit is not None else "is there memory, and room for processes?"
    return HostError(f"{name} cannot be started: {error.strerror}", hint=hint)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


def content(descriptor: int) -> str:
    """Return the content of a memory file."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")
