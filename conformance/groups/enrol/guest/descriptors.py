# SPDX-License-Identifier: GPL-2.0-only
"""Enrol a socket by a descriptor: ours, one handed over by SCM_RIGHTS, one stolen by pidfd_getfd(2)."""

from __future__ import annotations

import os
import select
import socket
import termios
import time
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import closing
from typing import Final

from conformance.groups.enrol.guest.proof import SHORT_GRACE
from conformance.groups.enrol.guest.proof import Proof
from conformance.guestlib import child
from conformance.guestlib import fixture
from conformance.guestlib import pidfd
from conformance.guestlib import sockets
from conformance.guestlib import traffic
from conformance.guestlib.answers import Steps
from conformance.guestlib.answers import attempt
from conformance.guestlib.child import Child

_PATIENCE: Final = 4.0
"""Seconds after which a flood will not come any more: its owner has a mebibyte to make first, and may be slow."""


class Stolen:
    """A child's socket, and our duplicate of it."""

    def __init__(self, proof: Proof, steps: Steps, owner: Child) -> None:
        self.proof, self.steps, self.owner = proof, steps, owner
        self.descriptor = -1

    def steal(self, thread: int | None = None) -> None:
        """Take a duplicate, from a thread of the owner if one is given, and see that it is one."""
        flags = 0 if thread is None else pidfd.THREAD
        pid = self.owner.pid if thread is None else thread
        self.descriptor = pidfd.steal_from(pid, self.owner.number, open_flags=flags)
        self.steps["identity"] = self._identity(pid)
        self.steps["close-on-exec"] = "no" if os.get_inheritable(self.descriptor) else "yes"

    def _identity(self, pid: int) -> str:
        """Say whether both descriptors are one open file; a kernel need not have kcmp(2), every one has cookies."""
        with socket.socket(fileno=os.dup(self.descriptor)) as same:
            cookie = sockets.cookie_of(same) == self.owner.cookie
        compared = pidfd.same_file(pid, self.owner.number, self.descriptor)
        return "same" if cookie and compared in ("same", "ENOSYS") else f"cookie {cookie}, kcmp {compared}"

    def insert(self) -> bool:
        """Insert the duplicate and look; whether that succeeded."""
        return self.proof.insert(self.descriptor, self.steps)

    def close(self) -> None:
        """Close the duplicate, if it is open."""
        self.proof.unwatch("duplicate")
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def _plain(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Steal, insert, close what was stolen: the owner's descriptor keeps the entry alive."""
    proof, steps = stolen.proof, stolen.steps
    stolen.steal()
    inserted = stolen.insert()
    proof.prove(steps)
    stolen.close()
    if inserted:
        steps["lookup-given-up"] = proof.looked_up()
        proof.prove(steps, "-given-up")
        stolen.owner.close()
        steps["lookup-gone"] = proof.looked_up()


def _owner_closes(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Close the owner's descriptor: what was stolen keeps the entry alive, and can be inserted elsewhere."""
    proof, steps = stolen.proof, stolen.steps
    stolen.steal()
    if not stolen.insert():
        return
    stolen.owner.close()
    proof.watch("duplicate", stolen.descriptor)
    steps["lookup-closed"] = proof.looked_up()
    steps["redirect"] = proof.redirected()
    second = proof.new_map()
    steps["insert-second"] = second.insert(stolen.descriptor)
    steps["lookup-second"] = proof.looked_up(target=second)
    stolen.close()
    steps["lookup-gone"] = proof.looked_up()
    steps["lookup-second-gone"] = proof.looked_up(target=second)


def _owner_killed(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Kill the owner while it waits for data and data is redirected: nothing is lost."""
    proof, steps = stolen.proof, stolen.steps
    stolen.steal()
    if not stolen.insert():
        return
    stolen.owner.order("apply", "recv", traffic.ROOM, socket.MSG_PEEK)
    proof.watch("duplicate", stolen.descriptor)
    steps["redirect"] = proof.redirected(stolen.owner.kill)
    steps["lookup-zombie"] = proof.looked_up()
    stolen.owner.reap()
    steps["lookup-killed"] = proof.looked_up()
    steps["redirect-killed"] = proof.redirected()
    stolen.close()
    steps["lookup-gone"] = proof.looked_up()


def _owner_killed_sending(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Kill the owner while it sends more than fits: the peer has the beginning of it, and then what is redirected."""
    proof, steps = stolen.proof, stolen.steps
    stolen.steal()
    if not stolen.insert():
        return
    proof.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    stolen.owner.order("flood")
    select.select([proof.peer], [], [], _PATIENCE)
    stolen.owner.kill()
    stolen.owner.reap()
    steps["received"] = _beginning(proof, stolen.descriptor)
    steps["lookup-killed"] = proof.looked_up()
    steps["redirect-killed"] = proof.redirected()
    stolen.close()
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
    return "a beginning" if got and child.flood().startswith(got) else f"{len(got)} bytes"


def _unacknowledged(sender: int) -> int:
    try:
        return traffic.count(sender, termios.TIOCOUTQ)
    except OSError:
        # Not every kernel can tell of VSOCK.
        return 0


def _queued(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Steal a socket on which data waits, and have more come: in a map with a program that runs on all of it."""
    proof, steps = stolen.proof, stolen.steps
    proof.let_wait()
    stolen.steal()
    stolen.insert()
    if proof.role == "target":
        steps["receive-queued"] = proof.landed()
    proof.prove(steps)


def _mapped(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Steal a socket that is in another map already, one of the other type and without a program."""
    proof, steps = stolen.proof, stolen.steps
    first = proof.new_map("sockhash" if params["map"] == "sockmap" else "sockmap")
    stolen.steal()
    steps["insert-first"] = first.insert(stolen.descriptor)
    stolen.close()
    stolen.steal()
    if not stolen.insert():
        return
    proof.prove(steps)
    steps["delete-first"] = first.delete()
    steps["lookup-first"] = proof.looked_up(target=first)
    proof.prove(steps, "-deleted")
    steps["insert-again"] = first.insert(stolen.descriptor)
    stolen.close()
    stolen.owner.close()
    steps["lookup-gone"] = proof.looked_up()
    steps["lookup-first-gone"] = proof.looked_up(target=first)


def _carrying(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Steal a socket that carries another map's verdict already."""
    proof, steps = stolen.proof, stolen.steps
    first = proof.new_map()
    fixture.attach(first, proof.program)
    stolen.steal()
    steps["insert-first"] = first.insert(stolen.descriptor)
    if steps["insert-first"] == "ok":
        stolen.insert()
        steps["lookup-first"] = proof.looked_up(target=first)


def _listener(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Steal a listener: it accepts as before, and what it accepts is not in the map."""
    proof, steps, owner = stolen.proof, stolen.steps, stolen.owner
    with fixture.possible(steps):
        address = owner.own("listen", params["kind"])
    proof.cookie = owner.cookie
    stolen.steal()
    inserted = stolen.insert()
    if inserted and proof.role == "target":
        steps["redirect"] = proof.redirected()
    client = sockets.fresh(params["kind"])
    client.connect(address)
    owner.own("accept")
    proof.face(owner, client)
    steps["send"] = proof.sent()
    proof.grace = SHORT_GRACE
    steps["receive"] = proof.received()
    if inserted:
        steps["lookup-accepted"] = proof.looked_up()
        owner.close()
        steps["lookup-closed"] = proof.looked_up()
    stolen.close()
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def _thread(stolen: Stolen, params: Mapping[str, str]) -> None:
    """Steal from a thread that has a table of descriptors of its own."""
    proof, steps, owner = stolen.proof, stolen.steps, stolen.owner
    thread = owner.enter_thread()
    try:
        proof.meet(owner, steps)
        steps["steal-from-leader"] = pidfd.try_to_steal(owner.pid, owner.number)
        steps["open-without-flag"] = attempt(_open, thread, 0)
        steps["open-leader"] = attempt(_open, owner.pid, pidfd.THREAD)
        steps["open"] = attempt(_open, thread, pidfd.THREAD)
        if steps["open"] != "ok":
            return
        stolen.steal(thread)
        inserted = stolen.insert()
        proof.prove(steps)
        stolen.close()
    finally:
        owner.close()
        owner.leave_thread()
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def _open(pid: int, flags: int) -> None:
    os.close(pidfd.open_pidfd(pid, flags))


VARIANTS: Final[Mapping[str, Callable[[Stolen, Mapping[str, str]], None]]] = {
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


def stolen(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Steal as `variant` says."""
    variant = params["variant"]
    killed = variant.startswith("owner-killed")
    owner = Child() if killed else child.shared()
    proof.fixture.callback(owner.end if killed else owner.close)
    if variant not in ("listener", "thread"):
        proof.meet(owner, steps)
    with closing(Stolen(proof, steps, owner)) as duplicate:
        VARIANTS[variant](duplicate, params)


def own(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket of this process by the descriptor or the duplicate that `by` says, and close the descriptor."""
    ours = proof.own(steps)
    duplicate = os.dup(ours.fileno())
    inserted = proof.insert(ours if params["by"] == "descriptor" else duplicate, steps)
    proof.prove(steps)
    ours.close()
    if inserted:
        steps["lookup-closed"] = proof.looked_up()
        proof.watch("duplicate", duplicate)
        steps["redirect-closed"] = proof.redirected()
    proof.unwatch("duplicate")
    os.close(duplicate)
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def handed_over(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket whose `sender` keeps it, closes it, or exits while the descriptor is in flight."""
    keeps = params["sender"] == "keeps"
    sender = Child() if params["sender"] == "exits" else child.shared()
    proof.fixture.callback(sender.end if params["sender"] == "exits" else sender.close)
    proof.meet(sender, steps)
    sender.command("hand_over")
    if params["sender"] == "closes":
        sender.close()
    elif params["sender"] == "exits":
        sender.kill()
        sender.reap()
    taken = sender.take()
    if not keeps:
        proof.watch("duplicate", taken)
    inserted = proof.insert(taken, steps)
    if keeps:
        proof.prove(steps)
    elif inserted:
        steps["redirect"] = proof.redirected()
    proof.unwatch("duplicate")
    os.close(taken)
    if inserted:
        steps["lookup-closed"] = proof.looked_up()
    if inserted and keeps:
        sender.close()
        steps["lookup-gone"] = proof.looked_up()
