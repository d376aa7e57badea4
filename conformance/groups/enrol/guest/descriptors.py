# SPDX-License-Identifier: GPL-2.0-only
"""Enrol a socket by a descriptor: ours, one handed over by SCM_RIGHTS, one stolen by pidfd_getfd(2)."""

from __future__ import annotations

import os
import select
import socket
import termios
import time
from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.enrol.guest.proof import SHORT_GRACE, Proof
from conformance.guestlib import child, fixture, pidfd, sockets, traffic
from conformance.guestlib.answers import Steps, attempt

_PEEK: Final = int(socket.MSG_PEEK)
"""A number: marshal takes no flags."""
_PATIENCE: Final = 4.0
"""Seconds after which a flood will not come any more: its owner has a mebibyte to make first, and may be slow."""


def _steal(proof: Proof, steps: Steps, thread: int | None = None) -> None:
    """Take a duplicate from the child, or from a thread of it, and see that it is one."""
    owner = proof.child
    pid, flags = (owner.pid, 0) if thread is None else (thread, pidfd.THREAD)
    proof.duplicate = pidfd.steal_from(pid, owner.number, open_flags=flags)
    with socket.socket(fileno=os.dup(proof.duplicate)) as same:
        cookie = sockets.cookie_of(same) == owner.cookie
    compared = pidfd.same_file(pid, owner.number, proof.duplicate)
    # A kernel need not have kcmp(2), every one has cookies.
    same_file = cookie and compared in ("same", "ENOSYS")
    steps["identity"] = "same" if same_file else f"cookie {cookie}, kcmp {compared}"
    steps["close-on-exec"] = "no" if os.get_inheritable(proof.duplicate) else "yes"


def _plain(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Steal, insert, close what was stolen: the owner's descriptor keeps the entry alive."""
    _steal(proof, steps)
    inserted = proof.insert(proof.duplicate, steps)
    proof.prove(steps)
    proof.close_duplicate()
    if inserted:
        steps["lookup-given-up"] = proof.looked_up()
        proof.prove(steps, "-given-up")
        proof.child.close()
        steps["lookup-gone"] = proof.looked_up()


def _owner_closes(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Close the owner's descriptor: what was stolen keeps the entry alive, and can be inserted elsewhere."""
    _steal(proof, steps)
    if not proof.insert(proof.duplicate, steps):
        return
    proof.child.close()
    proof.watch_duplicate()
    steps["lookup-closed"] = proof.looked_up()
    steps["redirect"] = proof.redirected()
    second = proof.new_map()
    steps["insert-second"] = second.insert(proof.duplicate)
    steps["lookup-second"] = proof.looked_up(target=second)
    proof.close_duplicate()
    steps["lookup-gone"] = proof.looked_up()
    steps["lookup-second-gone"] = proof.looked_up(target=second)


def _owner_killed(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Kill the owner while it waits for data and data is redirected: nothing is lost."""
    _steal(proof, steps)
    if not proof.insert(proof.duplicate, steps):
        return
    proof.child.order("apply", "recv", traffic.ROOM, _PEEK)
    proof.watch_duplicate()
    steps["redirect"] = proof.redirected(proof.child.kill)
    steps["lookup-zombie"] = proof.looked_up()
    proof.child.reap()
    steps["lookup-killed"] = proof.looked_up()
    steps["redirect-killed"] = proof.redirected()
    proof.close_duplicate()
    steps["lookup-gone"] = proof.looked_up()


def _owner_killed_sending(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Kill the owner while it sends more than fits: the peer has the beginning of it, and then what is redirected."""
    _steal(proof, steps)
    if not proof.insert(proof.duplicate, steps):
        return
    proof.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    proof.child.order("flood")
    select.select([proof.peer], [], [], _PATIENCE)
    proof.child.kill()
    proof.child.reap()
    steps["received"] = _beginning(proof, proof.duplicate)
    steps["lookup-killed"] = proof.looked_up()
    steps["redirect-killed"] = proof.redirected()
    proof.close_duplicate()
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


def _queued(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a socket on which data waits, and have more come: in a map with a program that runs on all of it."""
    proof.let_wait()
    _steal(proof, steps)
    proof.insert(proof.duplicate, steps)
    if proof.role == "target":
        steps["receive-queued"] = proof.landed()
    proof.prove(steps)


def _mapped(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a socket that is in another map already, one of the other type and without a program."""
    first = proof.new_map("sockhash" if params["map"] == "sockmap" else "sockmap")
    _steal(proof, steps)
    steps["insert-first"] = first.insert(proof.duplicate)
    proof.close_duplicate()
    _steal(proof, steps)
    if not proof.insert(proof.duplicate, steps):
        return
    proof.prove(steps)
    steps["delete-first"] = first.delete()
    steps["lookup-first"] = proof.looked_up(target=first)
    proof.prove(steps, "-deleted")
    steps["insert-again"] = first.insert(proof.duplicate)
    proof.close_duplicate()
    proof.child.close()
    steps["lookup-gone"] = proof.looked_up()
    steps["lookup-first-gone"] = proof.looked_up(target=first)


def _carrying(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a socket that carries another map's verdict already."""
    first = proof.new_map()
    fixture.attach(first, proof.program)
    _steal(proof, steps)
    steps["insert-first"] = first.insert(proof.duplicate)
    if steps["insert-first"] == "ok":
        proof.insert(proof.duplicate, steps)
        steps["lookup-first"] = proof.looked_up(target=first)


def _listener(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a listener: it accepts as before, and what it accepts is not in the map."""
    owner = proof.child
    with fixture.possible(steps):
        address = owner.own("listen", params["kind"])
    proof.cookie = owner.cookie
    _steal(proof, steps)
    inserted = proof.insert(proof.duplicate, steps)
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
    proof.close_duplicate()
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def _thread(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Steal from a thread that has a table of descriptors of its own."""
    owner = proof.child
    thread = owner.enter_thread()
    try:
        proof.meet(owner, steps)
        steps["steal-from-leader"] = pidfd.try_to_steal(owner.pid, owner.number)
        steps["open-without-flag"] = attempt(_open, thread, 0)
        steps["open-leader"] = attempt(_open, owner.pid, pidfd.THREAD)
        steps["open"] = attempt(_open, thread, pidfd.THREAD)
        if steps["open"] != "ok":
            return
        _steal(proof, steps, thread)
        inserted = proof.insert(proof.duplicate, steps)
        proof.prove(steps)
        proof.close_duplicate()
    finally:
        owner.close()
        owner.leave_thread()
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def _open(pid: int, flags: int) -> None:
    os.close(pidfd.open_pidfd(pid, flags))


VARIANTS: Final[Mapping[str, Callable[[Proof, Mapping[str, str], Steps], None]]] = {
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
    owner = proof.make_child(private=variant.startswith("owner-killed"))
    if variant not in ("listener", "thread"):
        proof.meet(owner, steps)
    VARIANTS[variant](proof, params, steps)


def own(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket of this process by the descriptor or the duplicate that `by` says, and close the descriptor."""
    ours = proof.own(steps)
    proof.duplicate = os.dup(ours.fileno())
    inserted = proof.insert(ours if params["by"] == "descriptor" else proof.duplicate, steps)
    proof.prove(steps)
    ours.close()
    if inserted:
        steps["lookup-closed"] = proof.looked_up()
        proof.watch_duplicate()
        steps["redirect-closed"] = proof.redirected()
    proof.close_duplicate()
    if inserted:
        steps["lookup-gone"] = proof.looked_up()


def handed_over(proof: Proof, params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket whose `sender` keeps it, closes it, or exits while the descriptor is in flight."""
    keeps = params["sender"] == "keeps"
    sender = proof.make_child(private=params["sender"] == "exits")
    proof.meet(sender, steps)
    sender.command("hand_over")
    if params["sender"] == "closes":
        sender.close()
    elif params["sender"] == "exits":
        sender.kill()
        sender.reap()
    proof.duplicate = sender.take()
    if not keeps:
        proof.watch_duplicate()
    inserted = proof.insert(proof.duplicate, steps)
    if keeps:
        proof.prove(steps)
    elif inserted:
        steps["redirect"] = proof.redirected()
    proof.close_duplicate()
    if inserted:
        steps["lookup-closed"] = proof.looked_up()
    if inserted and keeps:
        sender.close()
        steps["lookup-gone"] = proof.looked_up()
