# SPDX-License-Identifier: GPL-2.0-only
"""Enrol a socket by a descriptor: our own, one handed over by SCM_RIGHTS, or a duplicate from pidfd_getfd(2)."""

from __future__ import annotations

import os
import select
import socket
import termios
import time
from typing import Final

from conformance.groups.enrol.guest.setup import SHORT_GRACE, EnrolSetup
from conformance.guestlib import child, fixture, pidfd, sockets, traffic
from conformance.guestlib.answers import by_name, opens, outcome

_PEEK: Final = int(socket.MSG_PEEK)
"""A number: marshal takes no flags."""
_PATIENCE: Final = 4.0
"""Seconds to wait for the flood: its owner first generates a mebibyte, and may be slow."""


def _steal(setup: EnrolSetup, thread: int | None = None) -> None:
    """Take a duplicate from the child, or from a thread of it, and see that it is one."""
    owner = setup.child
    pid, flags = (owner.pid, 0) if thread is None else (thread, pidfd.THREAD)
    setup.duplicate = pidfd.steal_from(pid, owner.number, open_flags=flags)
    with socket.socket(fileno=os.dup(setup.duplicate)) as same:
        cookie = sockets.cookie_of(same) == owner.cookie
    compared = pidfd.same_file(pid, owner.number, setup.duplicate)
    # A kernel may lack kcmp(2); all have cookies.
    same_file = cookie and compared in ("same", "ENOSYS")
    setup.steps["identity"] = "same" if same_file else f"cookie {cookie}, kcmp {compared}"
    setup.steps["close-on-exec"] = "no" if os.get_inheritable(setup.duplicate) else "yes"


def _enrol(setup: EnrolSetup, thread: int | None = None) -> bool:
    """Steal and insert; whether that succeeded."""
    _steal(setup, thread)
    return setup.insert(setup.duplicate)


def _plain(setup: EnrolSetup) -> None:
    """Duplicate the socket, insert it, close the duplicate: the owner's descriptor keeps the entry alive."""
    inserted = _enrol(setup)
    setup.prove()
    setup.close_duplicate()
    if inserted:
        setup.look("-given-up")
        setup.prove("-given-up")
        setup.child.close()
        setup.look("-gone")


def _owner_closes(setup: EnrolSetup) -> None:
    """Close the owner's descriptor: the duplicate keeps the entry alive, and can be inserted elsewhere."""
    if not _enrol(setup):
        return
    setup.child.close()
    setup.watch_duplicate()
    setup.look("-closed")
    setup.steps["redirect"] = setup.redirected()
    second = setup.new_map()
    setup.steps["insert-second"] = second.insert(setup.duplicate)
    setup.look("-second", target=second)
    setup.close_duplicate()
    setup.look("-gone")
    setup.look("-second-gone", target=second)


def _owner_killed(setup: EnrolSetup) -> None:
    """Kill the owner while it waits for data and data is redirected: nothing is lost."""
    if not _enrol(setup):
        return
    setup.child.order("apply", "recv", traffic.ROOM, _PEEK)
    setup.watch_duplicate()
    setup.steps["redirect"] = setup.redirected(setup.child.kill)
    setup.look("-zombie")
    setup.child.reap()
    setup.look("-killed")
    setup.steps["redirect-killed"] = setup.redirected()
    setup.close_duplicate()
    setup.look("-gone")


def _owner_killed_sending(setup: EnrolSetup) -> None:
    """Kill the owner while it sends more than fits: the peer has the beginning of it, and then what is redirected."""
    if not _enrol(setup):
        return
    setup.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    setup.child.order("flood")
    select.select([setup.peer], [], [], _PATIENCE)
    setup.child.kill()
    setup.child.reap()
    setup.steps["received"] = _beginning(setup, setup.duplicate)
    setup.look("-killed")
    setup.steps["redirect-killed"] = setup.redirected()
    setup.close_duplicate()
    setup.look("-gone")


def _beginning(setup: EnrolSetup, sender: int) -> str:
    """Say whether the peer received an unbroken beginning of the flood."""
    got = b""
    quiet = 0
    deadline = time.monotonic() + _PATIENCE
    # Reading from the peer's queue brings more, at the latest in the second round, or when TCP probes the window.
    while (quiet < 2 or _unacknowledged(sender)) and time.monotonic() < deadline:
        setup.settle()
        fresh = b"".join(each for each in setup.drains["peer"]() if isinstance(each, bytes))
        quiet = 0 if fresh else quiet + 1
        got += fresh
    return "a beginning" if got and child.flood().startswith(got) else f"{len(got)} bytes"


def _unacknowledged(sender: int) -> bool:
    # Some kernels cannot report the queue of VSOCK.
    found = outcome(traffic.count, sender, termios.TIOCOUTQ)
    return isinstance(found, int) and found > 0


def _queued(setup: EnrolSetup) -> None:
    """Steal a socket on which data waits, and have more come: in a map with a program that runs on all of it."""
    setup.queue_data()
    _enrol(setup)
    if setup.role == "target":
        setup.steps["receive-queued"] = setup.place_of_data()
    setup.prove()


def _mapped(setup: EnrolSetup) -> None:
    """Steal a socket that is in another map already, one of the other type and without a program."""
    first = setup.new_map("sockhash" if setup.params["map"] == "sockmap" else "sockmap")
    _steal(setup)
    setup.steps["insert-first"] = first.insert(setup.duplicate)
    setup.close_duplicate()
    if not _enrol(setup):
        return
    setup.prove()
    setup.steps["delete-first"] = first.delete()
    setup.look("-first", target=first)
    setup.prove("-deleted")
    setup.steps["insert-again"] = first.insert(setup.duplicate)
    setup.close_duplicate()
    setup.child.close()
    setup.look("-gone")
    setup.look("-first-gone", target=first)


def _carrying(setup: EnrolSetup) -> None:
    """Steal a socket that carries another map's verdict already."""
    first = setup.new_map()
    fixture.attach(first, setup.program)
    _steal(setup)
    setup.steps["insert-first"] = first.insert(setup.duplicate)
    if setup.steps["insert-first"] == "ok":
        setup.insert(setup.duplicate)
        setup.look("-first", target=first)


def _listener(setup: EnrolSetup) -> None:
    """Steal a listener: it accepts as before, and what it accepts is not in the map."""
    address = setup.make_listener_in_child(setup.child)
    if _enrol(setup) and setup.role == "target":
        setup.steps["redirect"] = setup.redirected()
    setup.meet_accepted(setup.child, address)
    setup.steps["send"] = setup.sent()
    setup.grace = SHORT_GRACE
    setup.steps["receive"] = setup.received()
    setup.look("-accepted")
    setup.child.close()
    setup.look("-closed")
    setup.close_duplicate()
    setup.look("-gone")


def _thread(setup: EnrolSetup) -> None:
    """Duplicate a socket of a thread that has its own descriptor table."""
    owner = setup.child
    thread = owner.enter_thread()
    try:
        setup.make_in_child(owner)
        setup.steps["steal-from-leader"] = pidfd.try_to_steal(owner.pid, owner.number)
        setup.steps["open-without-flag"] = opens(pidfd.open_pidfd, thread, 0)
        setup.steps["open-leader"] = opens(pidfd.open_pidfd, owner.pid, pidfd.THREAD)
        setup.steps["open"] = opens(pidfd.open_pidfd, thread, pidfd.THREAD)
        if setup.steps["open"] != "ok":
            return
        _enrol(setup, thread)
        setup.prove()
        setup.close_duplicate()
    finally:
        owner.close()
        owner.leave_thread()
    setup.look("-gone")


VARIANTS: Final = by_name(
    _plain, _owner_closes, _owner_killed, _owner_killed_sending, _queued, _mapped, _carrying, _listener, _thread
)


def stolen(setup: EnrolSetup) -> None:
    """Steal as `variant` says."""
    variant = setup.params["variant"]
    owner = setup.make_child(private=variant.startswith("owner-killed"))
    if variant not in ("listener", "thread"):
        setup.make_in_child(owner)
    VARIANTS[variant](setup)


def own(setup: EnrolSetup) -> None:
    """Insert a socket of this process by the descriptor or the duplicate that `by` says, and close the descriptor."""
    ours = setup.own()
    setup.duplicate = os.dup(ours.fileno())
    inserted = setup.insert(ours if setup.params["by"] == "descriptor" else setup.duplicate)
    setup.prove()
    ours.close()
    if inserted:
        setup.look("-closed")
        setup.watch_duplicate()
        setup.steps["redirect-closed"] = setup.redirected()
    setup.close_duplicate()
    setup.look("-gone")


def handed_over(setup: EnrolSetup) -> None:
    """Insert a socket whose `sender` keeps it, closes it, or exits while the descriptor is in flight."""
    keeps = setup.params["sender"] == "keeps"
    sender = setup.make_child(private=setup.params["sender"] == "exits")
    setup.make_in_child(sender)
    sender.command("hand_over")
    if setup.params["sender"] == "closes":
        sender.close()
    elif setup.params["sender"] == "exits":
        sender.kill()
        sender.reap()
    setup.duplicate = sender.take()
    if not keeps:
        setup.watch_duplicate()
    inserted = setup.insert(setup.duplicate)
    if keeps:
        setup.prove()
    elif inserted:
        setup.steps["redirect"] = setup.redirected()
    setup.close_duplicate()
    setup.look("-closed")
    if keeps:
        sender.close()
        setup.look("-gone")
