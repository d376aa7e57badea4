# SPDX-License-Identifier: GPL-2.0-only
"""Who owns a socket: this process, or another one that does as it is told and knows nothing of maps.

The other process is a fork, which under emulation costs more than all the rest of a case. So one is kept and serves
all cases that do not end it. It gets one message a command and sends one an answer; descriptors go another way, so
that one can be in flight while the two talk on.
"""

from __future__ import annotations

import array
import marshal
import os
import select
import signal
import socket
from typing import Any
from typing import Protocol

from conformance.guestlib import receive
from conformance.guestlib import sockets
from conformance.guestlib.servant import PATIENCE
from conformance.guestlib.servant import ROOM
from conformance.guestlib.servant import Messages
from conformance.guestlib.servant import cookie_of
from conformance.guestlib.servant import send
from conformance.guestlib.servant import serve


class Owner(Protocol):
    """Who owns one socket."""

    cookie: bytes
    """The socket's identity, the same for every duplicate."""

    def send(self, data: bytes) -> str:
        """Send without waiting; `"ok"`, or what came of it."""

    def receive(self) -> Messages:
        """Return all that waits; nothing once the socket is closed."""

    def close(self) -> None:
        """Close the socket."""


class Here:
    """This process as an owner."""

    def __init__(self, owned: socket.socket, kind: str) -> None:
        self.cookie = cookie_of(owned)
        self._socket = owned
        self._stream = sockets.has_end(kind)

    def send(self, data: bytes) -> str:
        """Send without waiting; `"ok"`, or what came of it."""
        return send(self._socket, data)

    def receive(self) -> Messages:
        """Return all that waits; nothing once the socket is closed."""
        closed = self._socket.fileno() < 0
        return [] if closed else receive.drain(self._socket.fileno(), stream=self._stream)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Elsewhere:
    """Another process as an owner; what fails there raises OSError here."""

    def __init__(self) -> None:
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._mail, mail = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        master = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            serve(control, mail, master)
        control.close()
        mail.close()
        self.alive = True
        self._control.settimeout(PATIENCE)
        self._mail.settimeout(PATIENCE)
        self.number = -1
        """The socket's descriptor over there."""
        self.cookie = b""
        self.command("tell_thread")

    def command(self, name: str, *arguments: Any) -> Any:
        """Have a method of `Servant` called there, and return what it returned."""
        self.order(name, *arguments)
        return self.answer()

    def answer(self) -> Any:
        """Wait for the answer to a command given before, and return it."""
        failure, value = marshal.loads(self._control.recv(ROOM))  # noqa: S302 - our own child wrote it
        if failure:
            raise OSError(failure, os.strerror(failure))
        return value

    def order(self, name: str, *arguments: Any) -> None:
        """Give a command without waiting for the answer."""
        self._control.send(marshal.dumps((name, arguments)))

    def answered(self) -> bool:
        """Whether an answer waits."""
        return bool(select.select([self._control], [], [], 0)[0])

    def connect(self, kind: str, address: Any) -> Any:
        """Own a socket connected to an address; return its own address."""
        self.number, self.cookie, name = self.command("connect", kind, address)
        return name

    def listen(self, kind: str) -> Any:
        """Own a listener; return its address."""
        self.number, self.cookie, name = self.command("listen", kind)
        return name

    def accept(self) -> None:
        """Own what waits at the listener, which stays open."""
        self.number, self.cookie, _ = self.command("accept")

    def send(self, data: bytes) -> str:
        """Send without waiting; `"ok"`, or what came of it."""
        return str(self.command("send", data))

    def receive(self) -> Messages:
        """Return all that waits; nothing once the socket is closed."""
        return list(self.command("receive")) if self.alive else []

    def close(self) -> None:
        """Close the socket, and the listener it came from."""
        if self.alive:
            self.command("close")

    def hand_over(self) -> None:
        """Have a duplicate sent to us by SCM_RIGHTS; it is in flight until `take`."""
        self.command("hand_over")

    def take(self) -> int:
        """Receive the descriptor in flight."""
        _, ancillary, _, _ = self._mail.recvmsg(1, socket.CMSG_SPACE(4))
        return int(array.array("i", ancillary[0][2][:4])[0])

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
        """Have a thread with a table of descriptors of its own obey from now on; return its id."""
        self.order("obey_in_thread")
        return int(self.command("tell_thread"))

    def leave_thread(self) -> None:
        """Have that thread end, and the first one obey again."""
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


_kept: list[Elsewhere] = []


def another() -> Elsewhere:
    """Return the process that is kept; who ends it makes a process of its own instead."""
    if not _kept:
        _kept.append(Elsewhere())
    return _kept[0]


def discard() -> None:
    """End the process that is kept: after a case that went wrong nobody knows what it is at."""
    while _kept:
        _kept.pop().end()


def meet(owner: Elsewhere, kind: str) -> socket.socket:
    """Have the other process own a socket of a kind, and return what it is connected to."""
    peer = sockets.bound(kind)
    try:
        if not sockets.connects(kind):
            peer.connect(owner.connect(kind, peer.getsockname()))
            return peer
        peer.listen(1)
        peer.settimeout(PATIENCE)
        owner.connect(kind, peer.getsockname())
        accepted, _ = peer.accept()
    except BaseException:
        peer.close()
        raise
    peer.close()
    sockets.tune(accepted, kind)
    return accepted
