# SPDX-License-Identifier: GPL-2.0-only
"""The other process: it owns a socket, does with it what it is told, and knows nothing of maps."""

from __future__ import annotations

import array
import ctypes
import errno
import gc
import marshal
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from functools import cache
from typing import Any
from typing import NoReturn

from conformance.guestlib import pidfd
from conformance.guestlib import receive
from conformance.guestlib import sockets
from conformance.guestlib.answers import error_name

Messages = list[bytes | str]
"""As `receive.drain` returns them."""

PATIENCE = 4.0
"""Seconds after which the other side is taken for lost."""
ROOM = 1 << 16
"""Bytes a message between us has at most."""
_SO_COOKIE = 57
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_PTRACER = 0x59616D61
_CLONE_FILES, _CLONE_NEWUSER = 0x400, 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


class Servant:
    """What the other process can do; orders and answers travel by marshal."""

    def __init__(self, control: socket.socket, mail: socket.socket) -> None:
        self._control, self._mail = control, mail
        self._owned: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._pipe = (-1, -1)
        self._home, self._nest = "", list[str]()
        self._stream = False
        self._obeying = True

    def obey(self) -> None:
        """Do what we are told until we are told to stop, or nobody is there to tell us."""
        while self._obeying and (message := self._control.recv(ROOM)):
            name, arguments = marshal.loads(message)  # noqa: S302 - our own parent wrote it
            try:
                answer = (0, getattr(self, name)(*arguments))
            except OSError as error:
                answer = (error.errno or errno.ETIMEDOUT, None)
            with suppress(BrokenPipeError):
                self._control.send(marshal.dumps(answer))

    def tell_thread(self) -> int:
        """Return the id of the thread that obeys."""
        return threading.get_native_id()

    def obey_in_thread(self) -> None:
        """Let a thread with a table of descriptors of its own obey, until it is told to `leave_thread`."""
        thread = threading.Thread(target=self._obey_apart)
        thread.start()
        thread.join()
        self._obeying = True

    def leave_thread(self) -> None:
        """Let the thread that obeys end."""
        self._obeying = False

    def _obey_apart(self) -> None:
        _check(_libc.unshare(_CLONE_FILES))
        self.obey()

    def connect(self, kind: str, address: Any) -> tuple[int, bytes, Any]:
        """Own a socket connected to an address."""
        self._stream = sockets.has_end(kind)
        self._owned = sockets.fresh(kind) if sockets.connects(kind) else sockets.bound(kind)
        self._owned.connect(address)
        sockets.tune(self._owned, kind)
        return self._describe()

    def begin_connect(self, kind: str, address: Any) -> None:
        """Own a socket that tries to connect."""
        self._owned = sockets.fresh(kind)
        self._owned.setblocking(False)
        self._owned.connect_ex(address)

    def listen(self, kind: str) -> tuple[int, bytes, Any]:
        """Own a listener."""
        self._stream = sockets.has_end(kind)
        self._listener = self._owned = sockets.bound(kind)
        self._listener.listen(8)
        return self._describe()

    def accept(self) -> tuple[int, bytes, Any]:
        """Own what waits at the listener."""
        listener = self._get(self._listener)
        listener.settimeout(PATIENCE)
        self._owned, _ = listener.accept()
        return self._describe()

    def set_option(self, level: int, name: int, value: int) -> None:
        """Set an option of the socket."""
        self._get(self._owned).setsockopt(level, name, value)

    def pending_error(self) -> int:
        """Return and clear the socket's error."""
        return self._get(self._owned).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def send(self, data: bytes) -> str:
        """Send without waiting."""
        return send(self._get(self._owned), data)

    def receive(self) -> Messages:
        """Return what waits."""
        return receive.drain(self._owned.fileno(), stream=self._stream) if self._owned else []

    def wait(self) -> bytes:
        """Wait for data, and leave it where it is."""
        return self._get(self._owned).recv(ROOM, socket.MSG_PEEK)

    def churn(self, kind: str, rounds: int) -> None:
        """Open and close pairs of sockets."""
        for _ in range(rounds):
            for each in sockets.pair(kind):
                each.close()
        sockets.close_listeners()

    def flood(self) -> None:
        """Send what `flood` returns, waiting where we must: soon."""
        self._get(self._owned).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        self._get(self._owned).sendall(flood())

    def open_pipe(self) -> int:
        """Open something that is no socket; return its descriptor."""
        self._pipe = os.pipe()
        return self._pipe[0]

    def close_pipe(self) -> None:
        """Close it."""
        for descriptor in self._pipe:
            os.close(descriptor)

    def move(self, home: str, nest: list[str]) -> None:
        """Move into the first of some cgroups, and remove them all when nobody commands us any more."""
        # So that we outlive those who command us.
        os.setsid()
        _check(_libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0))
        self._home, self._nest = home, nest
        _move(nest[0])

    def leave(self) -> None:
        """Remove the cgroups we were moved to."""
        if self._nest:
            _move(self._home)
        for path in self._nest:
            os.rmdir(path)

    def become(self, uid: int, dumpable: int) -> None:
        """Drop to a user without capabilities."""
        if os.getuid() != uid:
            os.setresuid(uid, uid, uid)
        _check(_libc.prctl(_PR_SET_DUMPABLE, dumpable, 0, 0, 0))

    def permit(self, pid: int) -> None:
        """Let Yama let a process trace us."""
        _check(_libc.prctl(_PR_SET_PTRACER, pid, 0, 0, 0))

    def unshare_user(self) -> None:
        """Move to a user namespace of our own."""
        _check(_libc.unshare(_CLONE_NEWUSER))

    def steal(self, pid: int, number: int) -> str:
        """Try to steal a descriptor."""
        return pidfd.try_to_steal(pid, number)

    def hand_over(self) -> None:
        """Send a duplicate of the socket."""
        rights = array.array("i", [self._get(self._owned).fileno()])
        self._mail.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def close(self) -> None:
        """Close the socket, and the listener it came from."""
        for each in (self._owned, self._listener):
            if each is not None:
                each.close()
        self._owned = self._listener = None

    def _describe(self) -> tuple[int, bytes, Any]:
        owned = self._get(self._owned)
        return owned.fileno(), cookie_of(owned), owned.getsockname()

    @staticmethod
    def _get(one: socket.socket | None) -> socket.socket:
        if one is None:
            raise OSError(errno.EBADF, "it was closed")
        return one


@cache
def flood() -> bytes:
    """Return more than a socket's buffers take; of a piece of it can be seen which part it is."""
    return array.array("I", range(1 << 18)).tobytes()


def send(through: socket.socket, data: bytes) -> str:
    """Send without waiting; `"ok"`, or the errno's name, or how much of it was taken."""
    try:
        count = through.send(data, socket.MSG_DONTWAIT)
    except OSError as error:
        return error_name(error.errno or errno.ETIMEDOUT)
    return "ok" if count == len(data) else f"{count} of {len(data)}"


def serve(control: socket.socket, mail: socket.socket, master: int) -> NoReturn:
    """Be the other process."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        sockets.close_listeners()
        # What this process has by inheritance would keep sockets and maps of cases alive.
        keep = sorted((control.fileno(), mail.fileno()))
        os.closerange(3, keep[0])
        os.closerange(keep[0] + 1, keep[1])
        os.closerange(keep[1] + 1, 1 << 20)
        # Nor may what Python remembers of it be collected here: that would close numbers that are in use again.
        gc.freeze()
        servant = Servant(control, mail)
        if os.getppid() == master:
            servant.obey()
            servant.leave()
    finally:
        os._exit(0)


def cookie_of(owned: socket.socket) -> bytes:
    """Return a socket's identity, the same for every duplicate."""
    if owned.family == socket.AF_VSOCK:
        # Python takes every option of such a socket for 8 bytes, and allows nothing else.
        return owned.getsockopt(socket.SOL_SOCKET, _SO_COOKIE).to_bytes(8, sys.byteorder)
    return owned.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)


def _move(cgroup: str) -> None:
    with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
