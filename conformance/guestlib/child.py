# SPDX-License-Identifier: GPL-2.0-only
"""A child process that owns a socket, carries out commands on it, and has no maps.

A fork costs more under emulation than all the rest of a case. So one child is kept and serves all cases that do not end
it. It gets one message a command and sends one an answer; descriptors go another way, so that one can be in flight
while the two talk on.
"""

from __future__ import annotations

import array
import errno
import gc
import marshal
import os
import select
import signal
import socket
import threading
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any, NoReturn

from conformance.guestlib import fixture, pidfd, procfs, sockets, traffic
from conformance.guestlib.traffic import Messages

PATIENCE = 4.0
"""Seconds after which the other side is taken for lost."""
_ROOM = traffic.ROOM
_PR_SET_PDEATHSIG = 1
_CLONE_FILES = 0x400


class Child:
    """The child, seen from here; what fails there raises OSError here."""

    def __init__(self) -> None:
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._mail, mail = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            _serve(control, mail, parent)
        control.close()
        mail.close()
        self.alive = True
        self._control.settimeout(PATIENCE)
        self._mail.settimeout(PATIENCE)
        self.number = -1
        """The socket's descriptor over there; negative if it owns none, about which it need not be asked."""
        self.cookie = b""
        """The socket's identity, the same for every duplicate."""
        self.command("tell_thread")

    def command(self, name: str, *arguments: Any) -> Any:
        """Have a method of `_Commands` called there, and return what it returned."""
        self.order(name, *arguments)
        return self.answer()

    def order(self, name: str, *arguments: Any) -> None:
        """Give a command without waiting for the answer."""
        self._control.send(marshal.dumps((name, arguments)))

    def answer(self) -> Any:
        """Wait for the answer to a command given before, and return it."""
        failure, value = marshal.loads(self._control.recv(_ROOM))  # noqa: S302 - our own child wrote it
        if failure:
            raise OSError(failure, os.strerror(failure))
        return value

    def answered(self) -> bool:
        """Whether an answer waits."""
        return bool(select.select([self._control], [], [], 0)[0])

    def own(self, command: str, *arguments: Any) -> Any:
        """Have it `connect`, `begin_connect`, `listen` or `accept`, and own that; return the socket's address."""
        self.number, self.cookie, name = self.command(command, *arguments)
        return name

    def send(self, data: bytes) -> str:
        """Send without waiting; `"ok"`, or what came of it."""
        return str(self.command("send", data))

    def receive(self) -> Messages:
        """Return all that waits; nothing once the socket is closed."""
        return list(self.command("receive")) if self.alive and self.number >= 0 else []

    def close(self) -> None:
        """Close the socket, and the listener it came from."""
        if self.alive and self.number >= 0:
            self.command("close")
        self.number = -1

    def take(self) -> int:
        """Receive the descriptor that the command `hand_over` put in flight."""
        return socket.recv_fds(self._mail, 1, 1)[1][0]

    def kill(self) -> None:
        """End the process by SIGKILL; it is a zombie when this returns."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self.alive = False

    def reap(self) -> None:
        """Leave nothing of a killed process but what is in flight."""
        os.waitpid(self.pid, 0)
        self.pid = -1

    def enter_thread(self) -> int:
        """Let a thread with its own descriptor table carry out the commands from now on; return its id."""
        self.order("serve_in_thread")
        return int(self.command("tell_thread"))

    def leave_thread(self) -> None:
        """End that thread; the first one carries out commands again."""
        self.command("leave_thread")
        self.answer()

    def end(self) -> None:
        """Leave nothing of the process, in whatever state it is."""
        if self.alive:
            self.kill()
        if self.pid > 0:
            self.reap()
        self._control.close()
        self._mail.close()


class _Commands:
    """What the child can do; commands and answers travel by marshal."""

    def __init__(self, control: socket.socket, mail: socket.socket) -> None:
        self._control, self._mail = control, mail
        self._owned: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._cgroups = list[str]()
        self._stream = False
        self._obeying = True

    def serve(self) -> None:
        """Carry out commands until `stop`, or until the parent is gone."""
        while self._obeying and (message := self._control.recv(_ROOM)):
            name, arguments = marshal.loads(message)  # noqa: S302 - our own parent wrote it
            try:
                answer = (0, getattr(self, name)(*arguments))
            except OSError as error:
                answer = (error.errno or errno.ETIMEDOUT, None)
            with suppress(BrokenPipeError):
                self._control.send(marshal.dumps(answer))

    # Return the id of the thread that obeys.
    tell_thread = staticmethod(threading.get_native_id)

    def serve_in_thread(self) -> None:
        """Let a thread with its own descriptor table carry out the commands, until `leave_thread`."""
        thread = threading.Thread(target=self._serve_with_own_descriptors)
        thread.start()
        thread.join()
        self._obeying = True

    def leave_thread(self) -> None:
        """Let the thread that obeys end."""
        self._obeying = False

    def _serve_with_own_descriptors(self) -> None:
        procfs.check(procfs.LIBC.unshare(_CLONE_FILES))
        self.serve()

    def connect(self, kind: str, address: Any, wait: bool = True) -> tuple[int, bytes, Any]:
        """Own a socket connected to an address, or one that tries to connect if we are not to wait."""
        self._stream = sockets.connects(kind)
        self._owned = sockets.fresh(kind) if self._stream else sockets.bound(kind)
        self._owned.setblocking(wait)
        with suppress(BlockingIOError):
            self._owned.connect(address)
        sockets.tune(self._owned, kind)
        return self._describe()

    def listen(self, kind: str) -> tuple[int, bytes, Any]:
        """Own a listener."""
        self._stream = sockets.connects(kind)
        self._listener = self._owned = sockets.bound(kind)
        self._listener.listen(8)
        return self._describe()

    def accept(self) -> tuple[int, bytes, Any]:
        """Own what waits at the listener, which stays open."""
        listener = _open(self._listener)
        listener.settimeout(PATIENCE)
        self._owned, _ = listener.accept()
        return self._describe()

    def apply(self, method: str, *arguments: Any) -> Any:
        """Call a method of the socket and return what it returns."""
        return getattr(_open(self._owned), method)(*arguments)

    def send(self, data: bytes) -> str:
        """Send without waiting."""
        return traffic.send(_open(self._owned), data)

    def receive(self) -> Messages:
        """Return what waits."""
        return traffic.drain(self._owned.fileno(), stream=self._stream) if self._owned else []

    def churn(self, kind: str, rounds: int) -> None:
        """Open and close pairs of sockets."""
        for _ in range(rounds):
            for each in sockets.pair(kind):
                each.close()
        sockets.close_listeners()

    def flood(self) -> None:
        """Send what `flood` returns, waiting where we must: soon."""
        _open(self._owned).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        _open(self._owned).sendall(flood())

    def move(self, cgroups: list[str]) -> None:
        """Move into the second of some cgroups; back into the first, and remove the others, when the parent is gone."""
        # So that we outlive those who command us.
        os.setsid()
        procfs.LIBC.prctl(_PR_SET_PDEATHSIG, 0)
        self._cgroups = cgroups
        procfs.write(f"{cgroups[1]}/cgroup.procs", "0")

    def leave(self) -> None:
        """Remove the cgroups we were moved to."""
        for path in self._cgroups[:1]:
            procfs.write(f"{path}/cgroup.procs", "0")
        for path in self._cgroups[1:]:
            os.rmdir(path)

    def libc(self, function: str, *arguments: int) -> int:
        """Call a function of the C library that takes numbers and returns one."""
        return procfs.check(getattr(procfs.LIBC, function)(*arguments))

    # Try to duplicate a descriptor with pidfd_getfd(2), by the ids of process and descriptor.
    steal = staticmethod(pidfd.try_to_steal)

    def hand_over(self) -> None:
        """Send a duplicate of the socket by SCM_RIGHTS; it is in flight until the parent takes it."""
        socket.send_fds(self._mail, [b"!"], [_open(self._owned).fileno()])

    def close(self) -> None:
        """Close the socket, and the listener it came from."""
        for each in (self._owned, self._listener):
            if each is not None:
                each.close()
        self._owned = self._listener = None

    def _describe(self) -> tuple[int, bytes, Any]:
        owned = _open(self._owned)
        return owned.fileno(), sockets.cookie_of(owned), owned.getsockname()


def _open(one: socket.socket | None) -> socket.socket:
    if one is None:
        raise OSError(errno.EBADF, "it was closed")
    return one


def _serve(control: socket.socket, mail: socket.socket, parent: int) -> NoReturn:
    try:
        procfs.LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        sockets.close_listeners()
        # What this process has by inheritance would keep sockets and maps of cases alive.
        keep = sorted((control.fileno(), mail.fileno()))
        os.closerange(3, keep[0])
        os.closerange(keep[0] + 1, keep[1])
        os.closerange(keep[1] + 1, 1 << 20)
        # Nor may what Python remembers of it be collected here: that would close numbers that are in use again.
        gc.freeze()
        commands = _Commands(control, mail)
        if os.getppid() == parent:
            commands.serve()
            commands.leave()
    finally:
        os._exit(0)


@cache
def flood() -> bytes:
    """Return more than a socket's buffers take; of a piece of it can be seen which part it is."""
    return array.array("I", range(1 << 18)).tobytes()


_kept: list[Child] = []


def shared() -> Child:
    """Return the child that is kept; a case that ends its child makes one of its own instead."""
    if not _kept:
        _kept.append(Child())
    return _kept[0]


def for_case(keep: ExitStack[bool | None], *, private: bool = False) -> Child:
    """Return a new child for one case, or the shared one. After the case the new one ends."""
    owner = Child() if private else shared()
    keep.callback(owner.end if private else owner.close)
    return owner


def discard() -> None:
    """End the child that is kept."""
    while _kept:
        _kept.pop().end()


fixture.WHEN_WRONG.append(discard)


def make_connected(child: Child, kind: str) -> socket.socket:
    """Make a connected socket in a child, and return its peer, which is in this process."""
    with ExitStack() as unfinished:
        peer = unfinished.enter_context(sockets.bound(kind))
        if sockets.connects(kind):
            peer.listen(1)
            peer.settimeout(PATIENCE)
            child.own("connect", kind, peer.getsockname())
            return sockets.tune(peer.accept()[0], kind)
        peer.connect(child.own("connect", kind, peer.getsockname()))
        unfinished.pop_all()
        return peer
