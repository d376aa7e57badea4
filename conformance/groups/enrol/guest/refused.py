# SPDX-License-Identifier: GPL-2.0-only
"""Calls of pidfd_getfd(2) that must fail: without permission, or without such a descriptor."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from conformance.guestlib import child, pidfd, procfs
from conformance.guestlib.answers import Steps, attempt, by_name
from conformance.guestlib.child import Child
from conformance.guestlib.fixture import Fixture

_USER = 65534
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"
_PR_SET_DUMPABLE = 4
_PR_SET_PTRACER = 0x59616D61
_CAP_SYS_PTRACE = 19
_CLONE_NEWUSER = 0x10000000
_CAPABILITIES = struct.Struct("=Ii")
_CAPABILITY_VERSION_3 = 0x20080522
_SETS = struct.Struct("=6I")

# setresuid, capget, capset
_NUMBERS = {"x86_64": (117, 125, 126), "s390x": (208, 184, 185), "ppc64le": (164, 183, 184)}
_SETRESUID, _CAPGET, _CAPSET = _NUMBERS.get(platform.machine(), (147, 90, 91))


_drop_user = partial(pidfd.call, _SETRESUID, _USER, _USER, _USER)


def _drop_capability(*, permitted: bool = False) -> None:
    header = ctypes.create_string_buffer(_CAPABILITIES.pack(_CAPABILITY_VERSION_3, 0))
    sets = ctypes.create_string_buffer(_SETS.size)
    pidfd.call(_CAPGET, ctypes.addressof(header), ctypes.addressof(sets))
    mask = ~(1 << _CAP_SYS_PTRACE)
    effective, allowed, *rest = _SETS.unpack(sets)
    _SETS.pack_into(sets, 0, effective & mask, allowed & mask if permitted else allowed, *rest)
    pidfd.call(_CAPSET, ctypes.addressof(header), ctypes.addressof(sets))


def _child(fixture: Fixture, *, private: bool = True) -> tuple[Child, socket.socket]:
    """Return a child with a socket, and its peer."""
    owner = child.for_case(fixture, private=private)
    return owner, fixture.enter_context(child.make_connected(owner, "tcp4"))


def _drop(owner: Child) -> None:
    """Have a child become a user without capabilities that another process of the user may trace."""
    owner.command("libc", "setresuid", _USER, _USER, _USER)
    owner.command("libc", "prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)


def _as_another(owner: Child, drop: Callable[[], object]) -> str:
    """Steal in a thread that gives up a right and then ends: credentials set by a raw system call are per thread."""
    answers: list[str] = []

    def steal() -> None:
        drop()
        answers.append(pidfd.try_to_steal(owner.pid, owner.number))

    thread = threading.Thread(target=steal)
    thread.start()
    thread.join()
    # A change of user makes the whole process undumpable; proc(5) would then show it as somebody else's.
    procfs.LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    return answers[0] if answers else "no answer"


def _user(fixture: Fixture, steps: Steps) -> None:
    """Steal as another user, and as root without CAP_SYS_PTRACE from a process that has it; both must fail."""
    owner, peer = _child(fixture, private=False)
    steps["other-user"] = _as_another(owner, _drop_user)
    steps["not-effective"] = _as_another(owner, _drop_capability)
    steps["not-permitted"] = _as_another(owner, partial(_drop_capability, permitted=True))
    steps["send"] = owner.send(b"mine")
    steps["receive"] = "data" if peer.recv(4) == b"mine" else "something else"
    steps["with-capability"] = pidfd.try_to_steal(owner.pid, owner.number)


def _same_user(fixture: Fixture, steps: Steps) -> None:
    """Steal from a process of the same user, which may forbid it by not being dumpable."""
    owner, _ = _child(fixture)
    with procfs.setting(_YAMA, "0"):
        _drop(owner)
        steps["dumpable"] = _as_another(owner, _drop_user)
        owner.command("libc", "prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
        steps["undumpable"] = _as_another(owner, _drop_user)
        steps["undumpable-capable"] = pidfd.try_to_steal(owner.pid, owner.number)


def _yama(fixture: Fixture, steps: Steps) -> None:
    """Steal from a child, from another process, and from one that permits it, in three scopes of Yama."""
    (owner, _), (other, _) = _child(fixture), _child(fixture)
    for each in (owner, other):
        _drop(each)
    for scope in "012":
        with procfs.setting(_YAMA, scope):
            steps[f"scope-{scope}-child"] = _as_another(owner, _drop_user)
            steps[f"scope-{scope}-stranger"] = other.command("steal", owner.pid, owner.number)
            owner.command("libc", "prctl", _PR_SET_PTRACER, other.pid, 0, 0, 0)
            steps[f"scope-{scope}-permitted"] = other.command("steal", owner.pid, owner.number)
            owner.command("libc", "prctl", _PR_SET_PTRACER, 0, 0, 0, 0)
            steps[f"scope-{scope}-capable"] = pidfd.try_to_steal(owner.pid, owner.number)


def _user_namespace(fixture: Fixture, steps: Steps) -> None:
    """Steal out of a user namespace, into it from above, and between two."""
    above, _ = _child(fixture, private=False)
    (inside, _), (beside, _) = _child(fixture), _child(fixture)
    for each in (inside, beside):
        each.command("libc", "unshare", _CLONE_NEWUSER)
    steps["out"] = inside.command("steal", above.pid, above.number)
    steps["across"] = inside.command("steal", beside.pid, beside.number)
    steps["into"] = pidfd.try_to_steal(inside.pid, inside.number)


def _bad_descriptor(fixture: Fixture, steps: Steps) -> None:
    """Call pidfd_getfd(2) for a closed descriptor, with a descriptor that is not a pidfd, and with flags."""
    owner, peer = _child(fixture, private=False)
    pid, number = owner.pid, owner.number
    steps["flag-1"] = pidfd.try_to_steal(pid, number, 1)
    steps["flag-cloexec"] = pidfd.try_to_steal(pid, number, os.O_CLOEXEC)
    steps["flag-high"] = pidfd.try_to_steal(pid, number, 1 << 31)
    steps["negative"] = pidfd.try_to_steal(pid, -1)
    steps["beyond"] = pidfd.try_to_steal(pid, (1 << 31) - 1)
    steps["no-pidfd"] = attempt(pidfd.steal, peer.fileno(), number)
    steps["closed-pidfd"] = attempt(pidfd.steal, -1, number)
    owner.close()
    steps["closed"] = pidfd.try_to_steal(pid, number)


def _dead(fixture: Fixture, steps: Steps) -> None:
    """Steal from a process that is dead, before and after it is reaped."""
    owner, _ = _child(fixture)
    pid = owner.pid
    handle = fixture.keep(pidfd.open_pidfd(pid))
    owner.kill()
    steps["zombie"] = attempt(pidfd.steal, handle, owner.number)
    owner.reap()
    steps["reaped"] = attempt(pidfd.steal, handle, owner.number)
    fixture.drop(handle)
    steps["open-reaped"] = attempt(pidfd.open_pidfd, pid)


def _no_socket(fixture: Fixture, steps: Steps) -> None:
    """Steal the descriptor of an event and insert it."""
    owner = child.shared()
    number = owner.command("libc", "eventfd", 0, 0)
    stolen = fixture.keep(pidfd.steal_from(owner.pid, number))
    for map_type in ("sockmap", "sockhash"):
        steps[f"insert-{map_type}"] = fixture.map(map_type, 1).insert(stolen)
    owner.command("libc", "close", number)


REASONS: Final = by_name(_user, _same_user, _yama, _user_namespace, _bad_descriptor, _dead, _no_socket)
