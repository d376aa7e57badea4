# SPDX-License-Identifier: GPL-2.0-only
"""Enrol a socket stolen by pidfd_getfd(2) from a process that does not cooperate."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import closing
from typing import Final

from bpf.guest import syscall
from conformance.guestlib import pidfd
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.owner import Elsewhere
from conformance.guestlib.owner import another
from conformance.guestlib.proof import SHORT_GRACE
from conformance.guestlib.proof import Proof
from conformance.guestlib.proof import attach_verdict
from conformance.guestlib.proof import possible
from conformance.guestlib.servant import cookie_of
from conformance.guestlib.servant import flood

Steps = dict[str, str]

_PATIENCE: Final = 4.0
"""Seconds after which a flood will not come any more: its owner has a mebibyte to make first, and may be slow."""


class Theft:
    """An owner, its socket, and our duplicate of it."""

    def __init__(self, proof: Proof, steps: Steps, owner: Elsewhere) -> None:
        self.proof, self.steps, self.owner = proof, steps, owner
        self.stolen = -1

    def steal(self, thread: int | None = None) -> None:
        """Take a duplicate, from a thread of the owner if one is given, and see that it is one."""
        flags = 0 if thread is None else pidfd.THREAD
        pid = self.owner.pid if thread is None else thread
        handle = pidfd.open_pidfd(pid, flags)
        try:
            self.stolen = pidfd.steal(handle, self.owner.number)
        finally:
            os.close(handle)
        self.steps["identity"] = self._identity(pid)
        self.steps["close-on-exec"] = "no" if os.get_inheritable(self.stolen) else "yes"

    def _identity(self, pid: int) -> str:
        """Say whether both descriptors are one open file; a kernel need not have kcmp(2), every one has cookies."""
        with socket.socket(fileno=os.dup(self.stolen)) as same:
            cookie = cookie_of(same) == self.owner.cookie
        compared = pidfd.same_file(pid, self.owner.number, self.stolen)
        return "same" if cookie and compared in ("same", "ENOSYS") else f"cookie {cookie}, kcmp {compared}"

    def insert(self) -> bool:
        """Insert the duplicate and look; whether that succeeded."""
        self.steps["insert"] = self.proof.enrol(self.stolen)
        if self.steps["insert"] != "ok":
            return False
        self.steps["lookup"] = self.proof.looked_up()
        return True

    def give_up(self) -> None:
        """Close the duplicate."""
        self.proof.unwatch("duplicate")
        os.close(self.stolen)
        self.stolen = -1


def _plain(theft: Theft, params: Mapping[str, str]) -> None:
    """Steal, insert, close what was stolen: the owner's descriptor keeps the entry alive."""
    proof, steps = theft.proof, theft.steps
    theft.steal()
    inserted = theft.insert()
    proof.prove(steps)
    theft.give_up()
    if inserted:
        steps["lookup-given-up"] = proof.looked_up()
        proof.prove(steps, "-given-up")
        theft.owner.close()
        steps["lookup-gone"] = proof.looked_up()


def _owner_closes(theft: Theft, params: Mapping[str, str]) -> None:
    """Close the owner's descriptor: what was stolen keeps the entry alive, and can be inserted elsewhere."""
    proof, steps = theft.proof, theft.steps
    theft.steal()
    if not theft.insert():
        return
    theft.owner.close()
    proof.watch("duplicate", theft.stolen)
    steps["lookup-closed"] = proof.looked_up()
    steps["redirect"] = proof.redirected()
    second = proof.new_map(params["map"])
    steps["insert-second"] = attempt(syscall.update_wide, second, 0, theft.stolen)
    steps["lookup-second"] = proof.looked_up(descriptor=second)
    theft.give_up()
    steps["lookup-gone"] = proof.looked_up()
    steps["lookup-second-gone"] = proof.looked_up(descriptor=second)


def _owner_killed(theft: Theft, params: Mapping[str, str]) -> None:
    """Kill the owner while it waits for data and data is redirected: nothing is lost."""
    proof, steps = theft.proof, theft.steps
    theft.steal()
    if not theft.insert():
        return
    theft.owner.order("wait")
    proof.watch("duplicate", theft.stolen)
    steps["redirect"] = proof.redirected(theft.owner.kill)
    steps["lookup-zombie"] = proof.looked_up()
    theft.owner.reap()
    steps["lookup-killed"] = proof.looked_up()
    steps["redirect-killed"] = proof.redirected()
    theft.give_up()
    steps["lookup-gone"] = proof.looked_up()


def _owner_killed_sending(theft: Theft, params: Mapping[str, str]) -> None:
    """Kill the owner while it sends more than fits: the peer has the beginning of it, and then what is redirected."""
    proof, steps = theft.proof, theft.steps
    theft.steal()
    if not theft.insert():
        return
    proof.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    theft.owner.order("flood")
    select.select([proof.peer], [], [], _PATIENCE)
    theft.owner.kill()
    theft.owner.reap()
    steps["received"] = _beginning(proof, theft.stolen)
    steps["lookup-killed"] = proof.looked_up()
    steps["redirect-killed"] = proof.redirected()
    theft.give_up()
    steps["lookup-gone"] = proof.looked_up()


def _beginning(proof: Proof, sender: int) -> str:
    """Say whether the peer received an unbroken beginning of the flood."""
    got = b""
    quiet = 0
    deadline = time.monotonic() + _PATIENCE
    # Room made in the peer's queue brings more, at the latest with the second round, or when TCP asks for room.
    while (quiet < 2 or _unacknowledged(sender)) and time.monotonic() < deadline:
        proof.settle()
        fresh = b"".join(each for each in proof.drain("peer") if isinstance(each, bytes))
        quiet = 0 if fresh else quiet + 1
        got += fresh
    return "a beginning" if got and flood().startswith(got) else f"{len(got)} bytes"


def _unacknowledged(sender: int) -> int:
    try:
        return int(struct.unpack("=i", fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        # Not every kernel can tell of VSOCK.
        return 0


def _queued(theft: Theft, params: Mapping[str, str]) -> None:
    """Steal a socket on which data waits, and have more come: in a map with a program that runs on all of it."""
    proof, steps = theft.proof, theft.steps
    proof.let_wait()
    theft.steal()
    theft.insert()
    if proof.role == "target":
        steps["receive-queued"] = proof.landed()
    proof.prove(steps)


def _mapped(theft: Theft, params: Mapping[str, str]) -> None:
    """Steal a socket that is in another map already, one of the other type and without a program."""
    proof, steps = theft.proof, theft.steps
    first = proof.new_map("sockhash" if params["map"] == "sockmap" else "sockmap")
    theft.steal()
    steps["insert-first"] = attempt(syscall.update_wide, first, 0, theft.stolen)
    theft.give_up()
    theft.steal()
    if not theft.insert():
        return
    proof.prove(steps)
    steps["delete-first"] = attempt(syscall.delete, first, 0)
    steps["lookup-first"] = proof.looked_up(descriptor=first)
    proof.prove(steps, "-deleted")
    steps["insert-again"] = attempt(syscall.update_wide, first, 0, theft.stolen)
    theft.give_up()
    theft.owner.close()
    steps["lookup-gone"] = proof.looked_up()
    steps["lookup-first-gone"] = proof.looked_up(descriptor=first)


def _carrying(theft: Theft, params: Mapping[str, str]) -> None:
    """Steal a socket that carries another map's verdict already."""
    proof, steps = theft.proof, theft.steps
    first = proof.new_map(params["map"])
    attach_verdict(first, proof.program)
    theft.steal()
    steps["insert-first"] = attempt(syscall.update_wide, first, 0, theft.stolen)
    if steps["insert-first"] == "ok":
        theft.insert()
        steps["lookup-first"] = proof.looked_up(descriptor=first)


def _listener(theft: Theft, params: Mapping[str, str]) -> None:
    """Steal a listener: it accepts as before, and what it accepts is not in the map."""
    proof, steps, owner = theft.proof, theft.steps, theft.owner
    with possible(steps):
        address = owner.listen(params["kind"])
    proof.cookie = owner.cookie
    theft.steal()
    inserted = theft.insert()
    if inserted and proof.role == "target":
        steps["redirect"] = proof.redirected()
    client = sockets.fresh(params["kind"])
    client.connect(address)
    owner.accept()
    proof.face(owner, client)
    steps["send"] = proof.sent()
    proof.grace = SHORT_GRACE
    steps["receive"] = proof.received()
    if inserted:
        steps["lookup-accepted"] = proof.looked_up()
        owner.close()
        steps["lookup-closed"] = proof.looked_up()
    theft.give_up()
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def _thread(theft: Theft, params: Mapping[str, str]) -> None:
    """Steal from a thread that has a table of descriptors of its own."""
    proof, steps, owner = theft.proof, theft.steps, theft.owner
    thread = owner.enter_thread()
    try:
        proof.meet(owner, steps)
        steps["steal-from-leader"] = pidfd.try_to_steal(owner.pid, owner.number)
        steps["open-without-flag"] = _try_to_open(thread, 0)
        steps["open-leader"] = _try_to_open(owner.pid, pidfd.THREAD)
        steps["open"] = _try_to_open(thread, pidfd.THREAD)
        if steps["open"] != "ok":
            return
        theft.steal(thread)
        inserted = theft.insert()
        proof.prove(steps)
        theft.give_up()
    finally:
        owner.close()
        owner.leave_thread()
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def _try_to_open(pid: int, flags: int) -> str:
    try:
        os.close(pidfd.open_pidfd(pid, flags))
    except OSError as error:
        return error_name(error.errno or 0)
    return "ok"


VARIANTS: Final[Mapping[str, Callable[[Theft, Mapping[str, str]], None]]] = {
    "plain": _plain,
    "owner-closes": _owner_closes,
    "owner-killed": _owner_killed,
    "owner-killed-sending": _owner_killed_sending,
    "queued": _queued,
    "mapped": _mapped,
    "carrying": _carrying,
    "listener": _listener,
    "thread": _thread,
}


def run(params: Mapping[str, str], steps: Steps) -> None:
    """Steal as `variant` says."""
    variant = params["variant"]
    with closing(Proof(params)) as proof, ExitStack() as stack:
        if variant.startswith("owner-killed"):
            owner = Elsewhere()
            stack.callback(owner.end)
        else:
            owner = another()
            stack.callback(owner.close)
        if variant not in ("listener", "thread"):
            proof.meet(owner, steps)
        theft = Theft(proof, steps, owner)
        try:
            VARIANTS[variant](theft, params)
        finally:
            if theft.stolen >= 0:
                theft.give_up()
