# SPDX-License-Identifier: GPL-2.0-only
"""Fences: know, without sleeping, that the kernel has nothing of ours left in flight.

Between a send() and the queue it ends in, data waits in at most three kinds of places that user space cannot see:

- the backlog of the network device (a softirq), for TCP and UDP over lo: usually empty when send() returns, but a
  softirq that was handed to ksoftirqd runs later;
- the psock backlog: sk_psock_backlog(), a work item of the target of an sk_skb redirect on the system work queue;
- the packet list of the vsock loopback, emptied by one work item.

Each is first in, first out on a CPU, so a byte of our own sent through the same place arrives after whatever was there
before it. The process is pinned to one CPU (but for the hammer's threads, which ask of VSOCK only, whose loopback has
one work item however many CPUs there are): bound work queues and softirqs stay on the CPU that raised them, hence one
queue of each kind instead of one a CPU. A byte redirected from one UDP socket to the egress of another passes the
device, the psock backlog and the device again; a byte over a plain vsock connection passes the vsock loopback. The
sockets, maps and programs of the fences are their own and never those of a case.

A *round* is vsock, then [device, psock backlog, device], then vsock: the longest way data can take between two runs
of a verdict program. So what is in flight when a round begins has, when it ends, either landed in a receive queue or
run a program. If no program ran after the round's first fence, everything has landed, and what is read next is all
there will be. `redirect` asks for exactly this, and for TCP having sent all it was given.

Limits, none met so far: a work item that sleeps (for a socket lock, for memory) may be overtaken by the fence; one that
waits for a timer (the target was full: retried a jiffy later; a TCP segment was lost: RTO) is not on any queue. Both
leave sent bytes unaccounted for, and the caller then keeps on for `redirect.GRACE` seconds. Only a *surplus* that
takes such a way is missed in its phase; it is then seen as stray bytes of the next.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from functools import cache

from conformance.guestlib import fixture, procfs
from conformance.guestlib.fixture import Fixture

TIMEOUT = 2.0
"""Seconds after which a fence that has not come back never will: the kernel is stuck, or a worker thread is."""
_AGAIN = 0.01
"""Seconds after which a fence is sent again, and after twice as many the next time, for a kernel may lose some."""

_TOKEN = struct.Struct("=Q")


class Fences:
    """Ways through the kernel's asynchronous queues; made once in a process and used by all its cases."""

    def __init__(self) -> None:
        os.sched_setaffinity(0, {procfs.LIBC.sched_getcpu()})
        self._vsock: tuple[socket.socket, socket.socket] | None = None
        self._made = Fixture()
        try:
            self._backlog = self._redirected(self._made)
        except BaseException:
            self.close()
            raise

    def backlog(self) -> bool:
        """Send a byte through device, psock backlog and device; False if it did not come back in time."""
        return _pass(*self._backlog)

    def vsock(self) -> bool:
        """Send a byte through the vsock loopback; False if it did not come back in time."""
        if self._vsock is None:
            self._vsock = self._made.pair("vsock_stream")
            self._vsock[1].settimeout(_AGAIN)
        return _pass(*self._vsock)

    def round(self, *, vsock: bool) -> bool:
        """Send a byte through everything, vsock first and last if that is wanted; False if one did not come back."""
        first = not vsock or self.vsock()
        # Also behind a first that did not: what can still arrive is to arrive.
        return self.backlog() and (not vsock or self.vsock()) and first

    def close(self) -> None:
        """Close what they are made of."""
        self._made.close()

    def _redirected(self, made: Fixture) -> tuple[socket.socket, socket.socket]:
        source, targets = made.map("sockmap", 1), made.map("sockmap", 1)
        name = fixture.attach(source, made.load("sk_skb_fence", {"targets": targets}))
        # a7ba4558e69a ("sock_map: Introduce BPF_SK_SKB_VERDICT"), 5.13: before, only TCP has a verdict.
        kind = "udp4" if name == "sk_skb_verdict" else "tcp4"
        (sender, self._intake), (outlet, receiver) = made.pair(kind), made.pair(kind)
        source.insert(self._intake)
        targets.insert(outlet)
        receiver.settimeout(_AGAIN)
        return sender, receiver


fences = cache(Fences)
"""Return the ones that all cases of this process use."""


def renew_fences() -> None:
    """Close the fences that something has held up; the next to ask gets new ones."""
    held_up = fences()
    fences.cache_clear()
    held_up.close()


def _pass(sender: socket.socket, receiver: socket.socket) -> bool:
    """Send a byte through; send it again where it may be lost, for whatever comes back was behind all that was before.

    False if none comes back in time.
    """
    # Unique and rising, so that a late byte of a fence that was given up, or of a worker that was killed, is not taken
    # for ours.
    first = time.monotonic_ns()
    try:
        sender.send(_TOKEN.pack(first))
        if _returns(receiver, first):
            return True
        wait, end = 2 * _AGAIN, first / 1e9 + TIMEOUT
        try:
            while (left := end - time.monotonic()) > 0:
                sender.send(_TOKEN.pack(time.monotonic_ns()))
                receiver.settimeout(min(wait, left))
                if _returns(receiver, first):
                    return True
                wait *= 2
        finally:
            receiver.settimeout(_AGAIN)
    except OSError:
        pass
    return False


def _returns(receiver: socket.socket, first: int) -> bool:
    """Wait for a byte that is as young as the first of its fence; False if that takes too long."""
    try:
        while True:
            token = receiver.recv(_TOKEN.size)
            if len(token) == _TOKEN.size and _TOKEN.unpack(token)[0] >= first:
                return True
            if not token:
                raise OSError(errno.EPIPE, "the way of the fence is closed")
    except TimeoutError:
        return False
