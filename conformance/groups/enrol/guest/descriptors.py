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

from conformance.groups.enrol.guest.setup import SHORT_GRACE, EnrolSetup
from conformance.guestlib import child, fixture, pidfd, sockets, traffic
from conformance.guestlib.answers import Steps, attempt

_PEEK: Final = int(socket.MSG_PEEK)
"""A number: marshal takes no flags."""
_PATIENCE: Final = 4.0
"""Seconds after which a flood will not come any more: its owner has a mebibyte to make first, and may be slow."""


def _steal(setup: EnrolSetup, steps: Steps, thread: int | None = None) -> None:
    """Take a duplicate from the child, or from a thread of it, and see that it is one."""
    owner = setup.child
    pid, flags = (owner.pid, 0) if thread is None else (thread, pidfd.THREAD)
    setup.duplicate = pidfd.steal_from(pid, owner.number, open_flags=flags)
    with socket.socket(fileno=os.dup(setup.duplicate)) as same:
        cookie = sockets.cookie_of(same) == owner.cookie
    compared = pidfd.same_file(pid, owner.number, setup.duplicate)
    # A kernel need not have kcmp(2), every one has cookies.
    same_file = cookie and compared in ("same", "ENOSYS")
    steps["identity"] = "same" if same_file else f"cookie {cookie}, kcmp {compared}"
    steps["close-on-exec"] = "no" if os.get_inheritable(setup.duplicate) else "yes"


def _plain(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Steal, insert, close what was stolen: the owner's descriptor keeps the entry alive."""
    _steal(setup, steps)
    inserted = setup.insert(setup.duplicate, steps)
    setup.prove(steps)
    setup.close_duplicate()
    if inserted:
        steps["lookup-given-up"] = setup.looked_up()
        setup.prove(steps, "-given-up")
        setup.child.close()
        steps["lookup-gone"] = setup.looked_up()


def _owner_closes(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Close the owner's descriptor: what was stolen keeps the entry alive, and can be inserted elsewhere."""
    _steal(setup, steps)
    if not setup.insert(setup.duplicate, steps):
        return
    setup.child.close()
    setup.watch_duplicate()
    steps["lookup-closed"] = setup.looked_up()
    steps["redirect"] = setup.redirected()
    second = setup.new_map()
    steps["insert-second"] = second.insert(setup.duplicate)
    steps["lookup-second"] = setup.looked_up(target=second)
    setup.close_duplicate()
    steps["lookup-gone"] = setup.looked_up()
    steps["lookup-second-gone"] = setup.looked_up(target=second)


def _owner_killed(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Kill the owner while it waits for data and data is redirected: nothing is lost."""
    _steal(setup, steps)
    if not setup.insert(setup.duplicate, steps):
        return
    setup.child.order("apply", "recv", traffic.ROOM, _PEEK)
    setup.watch_duplicate()
    steps["redirect"] = setup.redirected(setup.child.kill)
    steps["lookup-zombie"] = setup.looked_up()
    setup.child.reap()
    steps["lookup-killed"] = setup.looked_up()
    steps["redirect-killed"] = setup.redirected()
    setup.close_duplicate()
    steps["lookup-gone"] = setup.looked_up()


def _owner_killed_sending(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Kill the owner while it sends more than fits: the peer has the beginning of it, and then what is redirected."""
    _steal(setup, steps)
    if not setup.insert(setup.duplicate, steps):
        return
    setup.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    setup.child.order("flood")
    select.select([setup.peer], [], [], _PATIENCE)
    setup.child.kill()
    setup.child.reap()
    steps["received"] = _beginning(setup, setup.duplicate)
    steps["lookup-killed"] = setup.looked_up()
    steps["redirect-killed"] = setup.redirected()
    setup.close_duplicate()
    steps["lookup-gone"] = setup.looked_up()


def _beginning(setup: EnrolSetup, sender: int) -> str:
    """Say whether the peer received an unbroken beginning of the flood."""
    got = b""
    quiet = 0
    deadline = time.monotonic() + _PATIENCE
    # Room made in the peer's queue brings more, at the latest with the second round, or when TCP asks for room.
    while (quiet < 2 or _unacknowledged(sender)) and time.monotonic() < deadline:
        setup.settle()
        fresh = b"".join(each for each in setup.drain("peer") if isinstance(each, bytes))
        quiet = 0 if fresh else quiet + 1
        got += fresh
    return "a beginning" if got and child.flood().startswith(got) else f"{len(got)} bytes"


def _unacknowledged(sender: int) -> int:
    try:
        return traffic.count(sender, termios.TIOCOUTQ)
    except OSError:
        # Not every kernel can tell of VSOCK.
        return 0


def _queued(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a socket on which data waits, and have more come: in a map with a program that runs on all of it."""
    setup.let_wait()
    _steal(setup, steps)
    setup.insert(setup.duplicate, steps)
    if setup.role == "target":
        steps["receive-queued"] = setup.landed()
    setup.prove(steps)


def _mapped(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a socket that is in another map already, one of the other type and without a program."""
    first = setup.new_map("sockhash" if params["map"] == "sockmap" else "sockmap")
    _steal(setup, steps)
    steps["insert-first"] = first.insert(setup.duplicate)
    setup.close_duplicate()
    _steal(setup, steps)
    if not setup.insert(setup.duplicate, steps):
        return
    setup.prove(steps)
    steps["delete-first"] = first.delete()
    steps["lookup-first"] = setup.looked_up(target=first)
    setup.prove(steps, "-deleted")
    steps["insert-again"] = first.insert(setup.duplicate)
    setup.close_duplicate()
    setup.child.close()
    steps["lookup-gone"] = setup.looked_up()
    steps["lookup-first-gone"] = setup.looked_up(target=first)


def _carrying(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a socket that carries another map's verdict already."""
    first = setup.new_map()
    fixture.attach(first, setup.program)
    _steal(setup, steps)
    steps["insert-first"] = first.insert(setup.duplicate)
    if steps["insert-first"] == "ok":
        setup.insert(setup.duplicate, steps)
        steps["lookup-first"] = setup.looked_up(target=first)


def _listener(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Steal a listener: it accepts as before, and what it accepts is not in the map."""
    owner = setup.child
    with fixture.possible(steps):
        address = owner.own("listen", params["kind"])
    setup.cookie = owner.cookie
    _steal(setup, steps)
    inserted = setup.insert(setup.duplicate, steps)
    if inserted and setup.role == "target":
        steps["redirect"] = setup.redirected()
    client = sockets.fresh(params["kind"])
    client.connect(address)
    owner.own("accept")
    setup.face(owner, client)
    steps["send"] = setup.sent()
    setup.grace = SHORT_GRACE
    steps["receive"] = setup.received()
    if inserted:
        steps["lookup-accepted"] = setup.looked_up()
        owner.close()
        steps["lookup-closed"] = setup.looked_up()
    setup.close_duplicate()
    if inserted:
        steps["lookup-gone"] = setup.looked_up()


def _thread(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Steal from a thread that has a table of descriptors of its own."""
    owner = setup.child
    thread = owner.enter_thread()
    try:
        setup.meet(owner, steps)
        steps["steal-from-leader"] = pidfd.try_to_steal(owner.pid, owner.number)
        steps["open-without-flag"] = attempt(_open, thread, 0)
        steps["open-leader"] = attempt(_open, owner.pid, pidfd.THREAD)
        steps["open"] = attempt(_open, thread, pidfd.THREAD)
        if steps["open"] != "ok":
            return
        _steal(setup, steps, thread)
        inserted = setup.insert(setup.duplicate, steps)
        setup.prove(steps)
        setup.close_duplicate()
    finally:
        owner.close()
        owner.leave_thread()
    if inserted:
        steps["lookup-gone"] = setup.looked_up()


def _open(pid: int, flags: int) -> None:
    os.close(pidfd.open_pidfd(pid, flags))


VARIANTS: Final[Mapping[str, Callable[[EnrolSetup, Mapping[str, str], Steps], None]]] = {
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


def stolen(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Steal as `variant` says."""
    variant = params["variant"]
    owner = setup.make_child(private=variant.startswith("owner-killed"))
    if variant not in ("listener", "thread"):
        setup.meet(owner, steps)
    VARIANTS[variant](setup, params, steps)


def own(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket of this process by the descriptor or the duplicate that `by` says, and close the descriptor."""
    ours = setup.own(steps)
    setup.duplicate = os.dup(ours.fileno())
    inserted = setup.insert(ours if params["by"] == "descriptor" else setup.duplicate, steps)
    setup.prove(steps)
    ours.close()
    if inserted:
        steps["lookup-closed"] = setup.looked_up()
        setup.watch_duplicate()
        steps["redirect-closed"] = setup.redirected()
    setup.close_duplicate()
    if inserted:
        steps["lookup-gone"] = setup.looked_up()


def handed_over(setup: EnrolSetup, params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket whose `sender` keeps it, closes it, or exits while the descriptor is in flight."""
    keeps = params["sender"] == "keeps"
    sender = setup.make_child(private=params["sender"] == "exits")
    setup.meet(sender, steps)
    sender.command("hand_over")
    if params["sender"] == "closes":
        sender.close()
    elif params["sender"] == "exits":
        sender.kill()
        sender.reap()
    setup.duplicate = sender.take()
    if not keeps:
        setup.watch_duplicate()
    inserted = setup.insert(setup.duplicate, steps)
    if keeps:
        setup.prove(steps)
    elif inserted:
        steps["redirect"] = setup.redirected()
    setup.close_duplicate()
    if inserted:
        steps["lookup-closed"] = setup.looked_up()
    if inserted and keeps:
        sender.close()
        steps["lookup-gone"] = setup.looked_up()
